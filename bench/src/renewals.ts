import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { parseHostId } from '@virt-trust/base/host-id.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { parseSpkiPin } from '@virt-trust/base/spki-pin.ts';
import { jobChanges } from '@virt-trust/cli/job-watch.ts';
import { type ManagerClient, managerClient } from '@virt-trust/cli/manager-client.ts';
import { listRenewals } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { getManagerIdentity, provisionHost, putSetting } from '@virt-trust/contract/manager/operations.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { ComposeDomain, Core } from '@virt-trust/manager/core.ts';
import { domainsOf } from '@virt-trust/manager/domains.ts';
import type { Host } from '@virt-trust/manager/hosts/host.ts';
import { type RunningManager, startManager } from '@virt-trust/manager/manager.ts';
import { SqliteHostRepository } from '@virt-trust/manager/store/host-repository.ts';
import { openStore } from '@virt-trust/manager/store/open-store.ts';
import { startOwn } from './child.ts';
import type { Suite } from './suite.ts';

const HOSTS = 200;
/** The services whose certificates `certificate.lifetime` is for. */
const LIVE: readonly Service[] = ['libvirt', 'migration', 'vnc', 'backup'];
const CONCURRENCY = [1, 8, 32];
const MOST_MINUTES = 5;

interface Agent {
  readonly name: string;
  readonly pin: string;
  readonly port: number;
}

async function start(stateDirectory: string): Promise<RunningManager & { readonly core: Core }> {
  const composed = Promise.withResolvers<Core>();
  const watch: ComposeDomain = async (core) => {
    composed.resolve(core);
    return { handlers: {} };
  };
  const manager = await startManager(
    { stateDirectory, version: 'bench', listen: { address: '127.0.0.1', port: 0 }, log: silentLog },
    [...domainsOf({ dns: [], subnets: [] }), watch],
  );
  return Object.assign(manager, { core: await composed.promise });
}

/** As enrolment would have recorded it; no address of it is ever dialled but its channel's. */
function hostOf({ name, pin, port }: Agent, index: number): Host {
  const addresses = [`10.77.${index >> 8}.${index & 255}`];
  return {
    id: parseHostId(randomUUID()),
    name,
    cluster: 'default',
    state: 'enrolling',
    reason: null,
    ssh: { destination: `root@${name}` },
    sshHostKey: 'ssh-ed25519 AAAA',
    channel: { address: '127.0.0.1', port },
    managerAddresses: [],
    observeOnly: false,
    agentPins: [parseSpkiPin(pin)],
    declared: {
      interface: 'eth0',
      names: { dns: [name], addresses },
      interfaces: [{ name: 'eth0', roles: ['management'], names: { dns: [name], addresses } }],
      refused: [],
    },
    word: { dns: [name], accepted: addresses, outside: { dns: [], addresses: [] }, interfaces: {} },
    found: {
      identities: [],
      authorities: [],
      tcpListening: false,
      vncTls: false,
      spiceTls: false,
      vms: 0,
      allowedDns: false,
    } as Host['found'],
    grantedGates: [],
    desiredNumber: 0,
    revisions: {},
    inventory: null,
    observed: null,
  };
}

async function record(stateDirectory: string, agents: readonly Agent[]): Promise<void> {
  const { database, close } = openStore(stateDirectory, systemClock);
  try {
    const repository = new SqliteHostRepository(database);
    for (const [index, agent] of agents.entries()) await repository.save(hostOf(agent, index));
  } finally {
    close();
  }
}

const set = (client: ManagerClient, setting: string, value: string | number) =>
  client.call(putSetting, { params: { setting }, query: {}, body: { value } });

/** The first certificates of all hosts, asked for by name. */
async function provisionAll(client: ManagerClient, agents: readonly Agent[]): Promise<void> {
  const signal = AbortSignal.timeout(MOST_MINUTES * 60_000);
  const jobs = await Promise.all(
    agents.map(({ name }) => client.call(provisionHost, { params: { name }, body: {} }, { signal })),
  );
  for (const job of jobs) {
    let last = job;
    for await (const current of jobChanges(client, job, signal)) last = current;
    if (last.state !== 'done')
      throw new TrustError('bench.not_provisioned', 'failed', `cannot measure: ${last.error?.message}`);
  }
}

/** Makes all certificates due by a shorter lifetime; resolves with the seconds until the last host was done. */
async function renewAll(client: ManagerClient, core: Core, lifetime: string): Promise<number> {
  const done = async (state: 'done' | 'failed') => (await core.jobs.countByState()).get(state) ?? 0;
  const [before, failed] = [await done('done'), await done('failed')];
  const began = performance.now();
  await set(client, 'certificate.lifetime', lifetime);
  while (performance.now() < began + MOST_MINUTES * 60_000) {
    await delay(20);
    if ((await done('done')) - before >= HOSTS) return (performance.now() - began) / 1000;
    if ((await done('failed')) > failed) break;
  }
  throw new TrustError('bench.not_renewed', 'failed', 'cannot measure: not all certificates were renewed');
}

/** That each host serves what was asked for, so that nothing is counted that was not done. */
async function assertRenewed(client: ManagerClient, days: number): Promise<void> {
  const { items } = await client.call(listRenewals, { query: { limit: 1000 } });
  const renewed = items.filter(({ service, notAfter }) => {
    const left = (notAfter - systemClock.now()) / 86_400_000;
    return LIVE.includes(service) && left > days - 1 && left <= days;
  });
  if (renewed.length === HOSTS * LIVE.length) return;
  throw new TrustError(
    'bench.not_renewed',
    'failed',
    `cannot measure: ${renewed.length} of ${HOSTS * LIVE.length} certificates were renewed`,
  );
}

async function measure(say: (line: string) => void) {
  const directory = mkdtempSync(join(tmpdir(), 'virt-trust-bench-'));
  const first = await start(directory);
  const token = first.initialToken ?? '';
  const { current } = await managerClient({ url: first.url, token }).call(getManagerIdentity, {});
  await first.close();
  const child = await startOwn('./simulated-agents.ts', [String(HOSTS), current]);
  let manager: Awaited<ReturnType<typeof start>> | undefined;
  try {
    const agents = JSON.parse(child.line) as Agent[];
    await record(directory, agents);
    manager = await start(directory);
    const { core } = manager;
    const client = managerClient({ url: manager.url, token });
    // No host of this fleet can be looked at from outside.
    await set(client, 'probe.interval_seconds', 86_400);
    say(`provisioning ${HOSTS} simulated hosts`);
    await provisionAll(client, agents);
    const services = HOSTS * LIVE.length;
    const rates: { concurrency: number; hosts: number; certificates: number }[] = [];
    for (const [round, concurrency] of CONCURRENCY.entries()) {
      await set(client, 'renewal.concurrency', concurrency);
      const days = 170 - round * 10;
      const seconds = await renewAll(client, core, `${days}d`);
      await assertRenewed(client, days);
      rates.push({ concurrency, hosts: HOSTS / seconds, certificates: services / seconds });
      say(`${concurrency} hosts at once: ${(services / seconds).toFixed(1)} certificates/s`);
    }
    return rates;
  } finally {
    await manager?.close();
    await child.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The whole way of a renewal through the manager, from the due time to the record of what is served. */
export const renewalsSuite: Suite = {
  name: 'renewals',
  title: 'Certificates renewed per second',
  async run(say) {
    const rates = await measure(say);
    const alone = rates[0]?.certificates ?? Number.NaN;
    return {
      rows: rates.map(({ concurrency, hosts, certificates }) => ({
        what: `${HOSTS} hosts with three certificates each, ${concurrency} at once`,
        value: `${certificates.toFixed(1)} certificates/s, ${hosts.toFixed(1)} hosts/s`,
        ratio: `${(certificates / alone).toFixed(2)} times one at once`,
      })),
      notes: [
        `A manager and, in a process beside it, ${HOSTS} simulated agents that make real keys and requests and serve at once: channel (TLS 1.3, HTTP/2), plan, desired state, issuance with its record synced before the signature, observed state, audit. Left out is what a host does with its daemons and the manager's own handshake with libvirt.`,
        'All became due at the same moment, by a shorter lifetime; the waves began with one host each, as they always do. Both processes share the cores.',
      ],
    };
  },
};
