import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '@virt-trust/base/clock.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import { getAuthority } from '@virt-trust/contract/manager/certificate-operations.ts';
import { getHost } from '@virt-trust/contract/manager/host-operations.ts';
import { listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { Host } from '@virt-trust/lab/host.ts';
import { startVm } from '@virt-trust/lab/vm.ts';
import { median } from './figures.ts';
import { add, type Bed, onLab } from './on-lab.ts';
import type { Suite } from './suite.ts';

const ROUNDS = 5;
const AIM_SECONDS = 5;
const FIRST_OCTET = 70;
const VNC_PORT = 5900;
/** Between two rounds, as between two changes that have nothing to do with each other. */
const PAUSE_MS = 10_000;

interface Round {
  readonly seconds: number;
  /** Until the manager made the job. */
  readonly untilJob: number;
  readonly job: Job;
}

/** From the address's coming to a handshake of our own under it, which a client without an override makes. */
async function round({ client, signal }: Bed, host: Host, address: string, trust: string): Promise<Round> {
  const params = { params: { name: host.name } };
  const began = Date.now();
  await host.run(['ip', 'addr', 'add', `${address}/24`, 'dev', host.on('display').name]);
  for (;;) {
    const { observed } = await client.call(getHost, params, { signal });
    const vnc = observed?.credentials.find(({ service }) => service === 'vnc');
    if (vnc?.phase === 'settled' && vnc.proofs.some(({ target }) => target.includes(address))) break;
    await delay(20, undefined, { signal });
  }
  const place = { host: address, port: VNC_PORT, serverName: address };
  await probeVnc({ ...place, trust, timeoutMs: 20_000, clock: systemClock });
  const seconds = (Date.now() - began) / 1000;
  const { items } = await client.call(listJobs, { query: { limit: 10 } }, { signal });
  const job = items.find(({ kind, createdAt }) => kind === 'host-provision' && createdAt >= began);
  if (job === undefined) throw new Error(`no job brought ${address} to ${host.name}`);
  return { seconds, untilJob: (job.createdAt - began) / 1000, job };
}

const inSeconds = (value: number) => `${value.toFixed(2)} s`;

/** From an address that is added on the display network to a proven VNC handshake under it. */
export const addressChangeSuite: Suite = {
  name: 'address-change',
  title: 'From an added address to a proven handshake',
  run: (say) =>
    onLab({ name: 'bench-address', hosts: ['bench-a'], say }, async (bed) => {
      const host = bed.lab.host('bench-a');
      const { client, signal } = bed;
      const setting = { params: { setting: 'role.display' }, query: {} };
      await client.call(putSetting, { ...setting, body: { value: bed.lab.rangesOf('display') } }, { signal });
      await add(bed, host);
      await startVm(host, { name: 'guest', vncListen: '0.0.0.0' });
      const { bundle } = await client.call(getAuthority, { params: { name: 'console' } }, { signal });
      const rounds: Round[] = [];
      while (rounds.length < ROUNDS) {
        await delay(PAUSE_MS, undefined, { signal });
        const address = host.on('display').address.replace(/\d+$/, String(FIRST_OCTET + rounds.length));
        rounds.push(await round(bed, host, address, bundle));
        say(`round ${rounds.length}: ${inSeconds(rounds.at(-1)?.seconds ?? 0)}`);
      }
      const all = rounds.map(({ seconds }) => seconds);
      const total = median(all);
      const row = (what: string, values: readonly number[]) => ({
        what,
        value: inSeconds(median(values)),
        ratio: `${Math.round((median(values) / total) * 100)} %`,
      });
      const steps = rounds[0]?.job.steps.map(({ name }) => name) ?? [];
      const took =
        (name: string) =>
        ({ job }: Round) => {
          const step = job.steps.find((one) => one.name === name);
          return ((step?.finishedAt ?? step?.startedAt ?? 0) - (step?.startedAt ?? 0)) / 1000;
        };
      return {
        rows: [
          {
            what: `all (${ROUNDS} rounds, ${inSeconds(Math.min(...all))} to ${inSeconds(Math.max(...all))})`,
            value: inSeconds(total),
            ratio: `${(total / AIM_SECONDS).toFixed(2)} of the ${AIM_SECONDS} s aimed at`,
          },
          row(
            'the agent sees it at rest, the manager makes a job',
            rounds.map(({ untilJob }) => untilJob),
          ),
          ...steps.map((name) => row(name, rounds.map(took(name)))),
        ],
        notes: [
          'On a host of the lab with a running VM, from `ip addr add` on its display network until the VNC certificate with the address is proven by the agent, known to the manager, and seen once more by a client of ours that verifies the address.',
        ],
      };
    }),
};
