import { describeError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { RenewalPlan } from '@virt-trust/contract/model/certificate.ts';
import type { Core } from './core.ts';
import type { HostsContext } from './hosts/ports.ts';
import { provision } from './hosts/provisioning.ts';
import { renewalHandlers } from './http/handlers/renewal.ts';
import type { Handlers } from './http/handlers.ts';
import type { IssuanceDomain } from './issuance-domain.ts';
import { Freeze } from './renewal/freeze.ts';
import { RenewalPlanner } from './renewal/planner.ts';
import { renewJob } from './renewal/renew-job.ts';
import { renewalAlarms } from './renewal/renewal-alarms.ts';
import { Replanner } from './renewal/replanner.ts';
import { RenewalScheduler } from './renewal/scheduler.ts';
import { SqliteCertificateStore } from './store/certificate-store.ts';
import { SqliteRenewalStore } from './store/renewal-store.ts';

/** What renewals offer the rest of the manager. */
export interface RenewalDomain {
  readonly handlers: Pick<Handlers, 'listRenewals' | 'renewCertificate' | 'getFreeze' | 'putFreeze'>;
  readonly freeze: Freeze;
  /** The plan of a certificate; null where it is served nowhere. */
  planOf(serialNumber: string): Promise<RenewalPlan | null>;
  /** Calls the listener each time that the fleet is let go on. */
  onThaw(listener: () => void): void;
  /** To be called when something about a host's renewals changed that no write of the host tells of. */
  replan(hostName: string): void;
  /** To be called when a host's channel comes up. */
  hostIsBack(hostName: string): void;
  start(): Promise<void>;
  close(): Promise<void>;
}

/** Settings whose change moves renewals. */
const BEARING = /^(?:certificate\.(?:restart_)?lifetime|key\.algorithm|renewal\..*|status\..*)$/;

/** Puts the renewals together; before jobs are started. */
export function composeRenewal(core: Core, context: HostsContext, issuing: IssuanceDomain): RenewalDomain {
  const { clock, log, settings, events, jobs, signal, database } = core;
  const { repository: hosts, channels } = context;
  const store = new SqliteRenewalStore(database, clock);
  const certificates = new SqliteCertificateStore(database, clock);
  const { authorities } = issuing;
  const planner = new RenewalPlanner({ hosts, certificates, authorities, settings, store, clock });
  const thawed: (() => void)[] = [];
  const freeze = new Freeze({
    store,
    settings,
    events,
    onChange: ({ frozen }) => {
      if (frozen) inBackground(scheduler.stopQueued());
      else scheduler.wake();
      if (!frozen) for (const listener of thawed) listener();
      core.alarms.changed('renewal');
    },
  });
  const job = renewJob({
    hosts,
    store,
    planner,
    freeze,
    epoch: context.epoch,
    provision: (host, running) => provision(host, context, running),
    onOutcome: () => core.alarms.changed('renewal'),
  });
  jobs.register(job);
  const isUp = async (name: string) => {
    const host = await hosts.find(name);
    return host !== null && channels.stateOf(host.id)?.kind === 'up';
  };
  const scheduler = new RenewalScheduler({
    store,
    planner,
    freeze,
    settings,
    jobs,
    job,
    isUp,
    isHeld: () => context.revocations.isHeld(),
    clock,
    log,
    signal,
  });
  context.revocations.onResume(() => scheduler.wake());
  const replanner = new Replanner({ planner, log, signal, onPlanned: () => scheduler.wake() });
  core.alarms.register(renewalAlarms(store, freeze));
  const inBackground = (work: Promise<void>) => {
    work.catch((error: unknown) => {
      if (!signal.aborted) log.error({}, `cannot keep up with renewals: ${describeError(error)}`);
    });
  };
  hosts.onChange((id) => inBackground(replanOne(id)));
  settings.onChange((name, { scope, target }) => {
    if (BEARING.test(name)) inBackground(replanThose(scope, target));
  });
  core.metrics.gauge('virt_trust_renewals_running', 'Renewals of hosts under way.', async () => [
    { value: jobs.unfinished(job.kind).length },
  ]);
  core.metrics.gauge('virt_trust_renewals_frozen', 'Whether renewals are stopped.', async () => [
    { value: (await freeze.isFrozen()) ? 1 : 0 },
  ]);

  async function replanOne(id: HostId): Promise<void> {
    if (signal.aborted) return;
    const host = await hosts.get(id);
    if (host === null) replanner.hostRemoved(id);
    else replanner.hostChanged(host);
  }

  async function replanThose(scope: 'global' | 'cluster' | 'host', target: string): Promise<void> {
    if (scope === 'host') return replanner.plan([target]);
    const fleet = await hosts.list();
    replanner.plan(
      fleet.filter((host) => scope === 'global' || host.cluster === target).map(({ name }) => name),
    );
  }

  return {
    handlers: renewalHandlers({ store, planner, freeze, certificates, jobs, job, now: () => clock.now() }),
    freeze,
    onThaw: (listener) => {
      thawed.push(listener);
    },
    planOf: (serialNumber) => planner.planOf(serialNumber),
    replan: (name) => replanner.plan([name]),
    hostIsBack(name) {
      inBackground(
        store.markBack(name).then((waited) => {
          if (waited) scheduler.wake();
        }),
      );
    },
    async start() {
      // Whatever changed while nobody looked: a newer program, a crash between two writes.
      replanner.plan((await hosts.list()).map(({ name }) => name));
      scheduler.start();
    },
    async close() {
      await replanner.quiet();
      await scheduler.idle();
    },
  };
}
