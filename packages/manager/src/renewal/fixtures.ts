import type { TestContext } from 'node:test';
import { parseDuration } from '@virt-trust/base/duration.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { type Instant, instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { EventLog } from '../events/event-log.ts';
import { declaredOn, settledState, testHost } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';
import { issuanceOn } from '../issuance/fixtures.ts';
import type { JobContext } from '../jobs/job.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { settableClock } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import { type OpenStore, openStore } from '../store/open-store.ts';
import { SqliteRenewalStore } from '../store/renewal-store.ts';
import { Freeze } from './freeze.ts';
import { RenewalPlanner } from './planner.ts';
import { renewJob } from './renew-job.ts';
import { RenewalScheduler } from './scheduler.ts';

type FakeProvision = (host: Host, job: JobContext) => Promise<void>;

/** A fleet whose hosts renew in no time, and a scheduler for it on a real store; a second one on the same directory is a restart. */
export async function renewingFleet(
  t: TestContext,
  directory: string,
  clock: ReturnType<typeof settableClock> = settableClock(),
) {
  const stop = new AbortController();
  const { database, close }: OpenStore = openStore(directory, clock);
  const { authorities, certificates, settings, audit } = await issuanceOn(database, clock);
  const hosts = new SqliteHostRepository(database);
  const store = new SqliteRenewalStore(database, clock);
  const events = new EventLog(new SqliteEventStore(database, clock));
  const jobs = new JobRunner({
    store: new SqliteJobStore(database, clock),
    events,
    clock,
    log: silentLog,
    concurrency: 32,
  });
  const down = new Set<string>();
  const recovery = { held: false };
  const begun: string[] = [];
  let fake: FakeProvision = async () => {};
  const planner = new RenewalPlanner({ hosts, certificates, authorities, settings, store, clock });
  const freeze = new Freeze({
    store,
    settings,
    events,
    onChange: ({ frozen }) => {
      if (frozen) void scheduler.stopQueued();
      else scheduler.wake();
    },
  });
  const lifetime = async () => parseDuration(await settings.value('certificate.lifetime')) ?? 0;
  const job = renewJob({
    hosts,
    store,
    planner,
    freeze,
    epoch: 1,
    onOutcome: () => {},
    async provision(name, context) {
      begun.push(name);
      const host = await hosts.find(name);
      if (host === null) throw new Error('no such host');
      await fake(host, context);
      await serveAnew(hosts, host, clock.now(), await lifetime());
      return 'done';
    },
  });
  jobs.register(job);
  const scheduler = new RenewalScheduler({
    store,
    planner,
    freeze,
    settings,
    jobs,
    job,
    isUp: async (name) => !down.has(name),
    isHeld: () => recovery.held,
    clock,
    log: silentLog,
    signal: stop.signal,
  });
  let closed = false;
  const stopAll = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    stop.abort();
    await jobs.close();
    await scheduler.idle();
    close();
  };
  t.after(stopAll);
  return {
    clock,
    settings,
    audit,
    hosts,
    store,
    events,
    jobs,
    job,
    planner,
    freeze,
    scheduler,
    database,
    /** Whether the store was restored and hosts were not asked yet. */
    recovery,
    /** Hosts whose channel is down. */
    down,
    /** The hosts whose renewal began, in order. */
    begun,
    stop: stopAll,
    onProvision(next: FakeProvision) {
      fake = next;
    },
    /** Adds a host that got its certificates now. */
    async add(name: string) {
      await hosts.save(freshHost(name));
      const host = await hosts.find(name);
      if (host !== null) await serveAnew(hosts, host, clock.now(), await lifetime(), true);
      await planner.refresh(name);
    },
    /** Looks, and waits until every job that came of it is over. */
    async settle() {
      do {
        scheduler.wake();
        await scheduler.quiet();
        await scheduler.idle();
      } while (jobs.unfinished('host-renew').length > 0);
    },
  };
}

function freshHost(name: string): Host {
  const number = Number(name.replace(/\D/g, ''));
  return testHost(name, {
    id: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}` as string as HostId,
    declared: declaredOn('eth0', {
      dns: [name],
      addresses: [`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`],
    }),
  });
}

/** What the hosts of these tests serve. */
const SERVED: readonly Service[] = ['libvirt', 'migration', 'vnc'];

/** What an agent does whose revisions were raised, as the manager sees it after: other serial numbers, later ends. */
async function serveAnew(
  hosts: SqliteHostRepository,
  host: Host,
  now: Instant,
  lifetime: number,
  all = false,
): Promise<void> {
  const served = host.observed?.credentials ?? [];
  const raised = (service: Service) => all || (host.revisions[service] ?? 0) > 0;
  await hosts.update(host.id, (current) => ({
    ...current,
    revisions: {},
    observed: settledState('ours', {
      credentials: settledState('ours')
        .credentials.filter(({ service }) => SERVED.includes(service))
        .map((credential) => {
          const before = served.find(({ service }) => service === credential.service);
          return raised(credential.service) || before === undefined
            ? {
                ...credential,
                serialNumber: newSerialNumber(systemRandomness),
                notAfter: instant(now + lifetime),
              }
            : before;
        }),
    }),
  }));
}
