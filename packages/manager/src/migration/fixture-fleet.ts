import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { EvacuateHost, MigrateVm } from '@virt-trust/contract/model/migration.ts';
import { EventLog } from '../events/event-log.ts';
import { settledState, testHost } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';
import { Observing } from '../hosts/observing.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { Settings } from '../settings/settings.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { settableClock, temporaryDirectory } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import { openStore } from '../store/open-store.ts';
import { SqliteSettingStore } from '../store/setting-store.ts';
import { SqliteUnmanagedHostStore } from '../store/unmanaged-host-store.ts';
import type { MigrationContext } from './context.ts';
import { evacuationJob } from './evacuation.ts';
import { SimulatedAgent } from './fixture-agent.ts';
import { enqueueMigration, migrationJob } from './migration-job.ts';

/** A manager's part in migrations on a real store, with simulated agents; a second one on the same directory is a restart. */
export async function migratingFleet(
  t: TestContext,
  directory: string,
  agents: ReadonlyMap<string, SimulatedAgent> = new Map(),
) {
  const clock = settableClock();
  const { database, close } = openStore(directory, clock);
  const repository = new SqliteHostRepository(database, clock);
  const settings = new Settings(new SqliteSettingStore(database, clock));
  const audit = new SqliteAuditLog(database, clock);
  const byName = new Map(agents);
  const issued: string[] = [];
  const logged: string[] = [];
  const events = new EventLog(new SqliteEventStore(database, clock));
  const jobs = new JobRunner({
    store: new SqliteJobStore(database, clock),
    events,
    clock,
    log: silentLog,
    concurrency: 8,
  });
  const agentOf = (name: string): SimulatedAgent => {
    const known = byName.get(name) ?? new SimulatedAgent(name, () => clock.now());
    byName.set(name, known);
    return known;
  };
  const context = {
    clock,
    log: { ...silentLog, warn: (_: object, message: string) => void logged.push(message) },
    repository,
    observing: new Observing(repository),
    audit: { append: (entry: never) => audit.append([entry]) },
    channels: {
      stateOf: (id: HostId) => ({ kind: agentOf(names.get(id) ?? '').up ? 'up' : 'down' }),
      of: async ({ name }: Host) => ({
        agent: agentOf(name).client,
        state: { kind: agentOf(name).up ? 'up' : 'down' },
        waitUntilUp: (signal: AbortSignal) => agentOf(name).untilUp(signal),
      }),
    },
    certificates: {
      bundle: async () => '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----',
      namesOf: async () => null,
      issueMigrationClient: async ({ commonName }: { commonName: string }) => {
        issued.push(commonName);
        return { certificatePem: '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----' };
      },
    },
    revocations: {
      crlForHosts: async () => '-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----',
      revocationOf: () => null,
    },
    settingsOf: async () => ({ organization: 'x', allowedSkewSeconds: 60, clientCertificateMinutes: 10 }),
    settings,
    events,
    unmanaged: new SqliteUnmanagedHostStore(database, clock),
    jobs,
  } as unknown as MigrationContext;
  const names = new Map<HostId, string>((await repository.list()).map(({ id, name }) => [id, name]));
  const migration = migrationJob(context);
  const evacuation = evacuationJob(context, migration);
  jobs.register(migration);
  jobs.register(evacuation);
  await jobs.start();
  let closing: Promise<void> | undefined;
  const stop = () => {
    closing ??= jobs.close().then(() => close());
    return closing;
  };
  t.after(stop);
  const asked = { actor: 'token:test', idempotencyKey: undefined };
  return {
    clock,
    context,
    jobs,
    settings,
    repository,
    agents: byName,
    issued,
    logged,
    agentOf,
    stop,
    async add(name: string, more: Partial<Host> = {}): Promise<Host> {
      const host = testHost(name, {
        id: randomUUID() as string as HostId,
        observed: settledState('ours', { capabilities: testCapabilities() }),
        ...more,
      });
      names.set(host.id, name);
      await repository.save(host);
      return host;
    },
    addUnmanaged: (name: string, address: string) =>
      context.unmanaged.put({ name, cluster: 'default', address }, 'test'),
    migrate: (order: MigrateVm) => enqueueMigration(migration, order, asked, context),
    evacuate: (host: string, order: EvacuateHost = {}) =>
      jobs.enqueue(evacuation, { subject: host, payload: { host, order }, actor: 'token:test' }),
    async over(id: string): Promise<Job> {
      let last: Job | undefined;
      for await (const { job } of jobs.follow(id, new AbortController().signal)) last = job;
      if (last === undefined) throw new Error('no job');
      return last;
    },
    published: async (kind: string) =>
      (await new SqliteEventStore(database, clock).list(0, 1000)).filter((event) => event.kind === kind),
    /** Resolves once the job is as the test waits for it. */
    async until(id: string, holds: (job: Job) => boolean): Promise<Job> {
      for await (const { job } of jobs.follow(id, new AbortController().signal)) if (holds(job)) return job;
      throw new Error(`job ${id} ended first`);
    },
    /** Resolves once the migrations of these VMs run on their agents. */
    async underWay(...vms: readonly string[]): Promise<void> {
      for (const vm of vms) {
        const job = jobs.unfinished('migrate').find(({ job }) => job.subject.startsWith(`${vm} `))?.job;
        if (job === undefined) throw new Error(`no migration of ${vm}`);
        for await (const { job: now } of jobs.follow(job.id, new AbortController().signal))
          if (now.steps.some(({ name }) => name === 'Migrate')) break;
      }
    },
    audited: async (action: string) =>
      (await audit.list(0, 10_000))
        .filter((entry) => entry.action === action)
        .map(({ outcome, detail }) => ({ outcome, detail })),
  };
}

/** Two hosts that can all. */
export async function migratingPair(t: TestContext, directory = temporaryDirectory(t)) {
  const fleet = await migratingFleet(t, directory);
  await fleet.add('host1');
  await fleet.add('host2');
  return { ...fleet, directory, source: fleet.agentOf('host1'), destination: fleet.agentOf('host2') };
}
