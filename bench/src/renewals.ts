import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { ManagerClient } from '@virt-trust/cli/manager-client.ts';
import { listRenewals } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Core } from '@virt-trust/manager/core.ts';
import { set, withSimulatedFleet } from './simulated-fleet.ts';
import type { Suite } from './suite.ts';

const HOSTS = 200;
/** The services whose certificates `certificate.lifetime` is for. */
const LIVE: readonly Service[] = ['libvirt', 'migration', 'vnc', 'backup'];
const CONCURRENCY = [1, 8, 32];
const MOST_MINUTES = 5;

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
  return await withSimulatedFleet({ hosts: HOSTS }, say, async ({ core, client }) => {
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
  });
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
