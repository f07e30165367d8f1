import { parseDuration } from '@virt-trust/base/duration.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { JsonValue } from '@virt-trust/base/json.ts';
import { cancelMigration, getMigration } from '@virt-trust/contract/agent/migration-operations.ts';
import type { MigrateVm, MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import { collect } from '../hosts/collect.ts';
import type { Host } from '../hosts/host.ts';
import { requireHost } from '../hosts/require-host.ts';
import type { JobContext } from '../jobs/job.ts';
import { Cancelled } from '../jobs/job-runner.ts';
import { checkPair } from './check-pair.ts';
import { compareClocks } from './clocks.ts';
import { concluded, describeProof } from './conclusion.ts';
import type { MigrationContext } from './context.ts';
import { withCutOff } from './cut-off.ts';
import { AWAY_LIMIT, followMigration, isEnd } from './follow.ts';
import { agentPair, takeGrantsBack } from './grants.ts';
import { migrationOrder } from './order.ts';
import { notePlain } from './plain.ts';
import { assertFeasible, type PlannedMigration, planMigration, planOf } from './planning.ts';
import { startConducting } from './start-conducting.ts';
import { vmIsWhere } from './vm-is-where.ts';

/** What is kept of a migration that was begun, so that it goes on as it began; nothing secret. */
interface Begun {
  readonly order: MigrationOrder;
  /** The host whose agent conducts. */
  readonly conductor: string;
  readonly pair: readonly string[];
  readonly plan: MigrationPlan;
}

/** Migrates a VM as its hosts and the settings allow, and says what was seen to carry it. */
export async function migrate(order: MigrateVm, context: MigrationContext, job: JobContext): Promise<string> {
  const before = (await job.recall('begun')) as unknown as Begun | undefined;
  const found = before === undefined ? null : await resumed(before, context, job);
  if (before !== undefined && found !== null) return await carryThrough(order, before, found, context, job);
  const begun = await decideAndCheck(order, context, job);
  return await carryThrough(order, begun, null, context, job);
}

/** How a migration stands that a manager before this one began; null where the agent knows nothing of it yet. */
async function resumed(
  { conductor, plan }: Begun,
  context: MigrationContext,
  job: JobContext,
): Promise<MigrationStatus | null> {
  job.plan(plan);
  return await job.step('Take the migration up again', async (report) => {
    const channel = await context.channels.of(await requireHost(conductor, context));
    const wasStarted = (await job.recall('started')) !== undefined;
    try {
      await channel.waitUntilUp(job.signal, wasStarted ? AWAY_LIMIT : undefined);
      const status = await channel.agent.call(getMigration, { params: { id: job.id }, query: {} });
      report(`the agent on ${conductor} says: ${status.phase}`);
      return status;
    } catch (error) {
      job.signal.throwIfAborted();
      const isUnknown = isTrustError(error, 'migration.unknown');
      if (wasStarted)
        throw await vmIsWhere(
          plan,
          isUnknown ? `the agent on ${conductor} knows no more of it` : describeError(error),
          context,
          job,
        );
      if (!isUnknown) throw error;
      report('it had not begun');
      return null;
    }
  });
}

function secondsOf(duration: string): number {
  return Math.max(1, Math.round((parseDuration(duration) ?? MINUTE) / SECOND));
}

async function decideAndCheck(order: MigrateVm, context: MigrationContext, job: JobContext): Promise<Begun> {
  const planned = await job.step('Decide', async (report) => {
    const made = await planMigration(order, context);
    job.plan(planOf(order.vm, made));
    await assertFeasible(made, context);
    report(made.decision.explanation);
    return made;
  });
  if (planned.decision.mode === 'plain') await notePlain(order, planned.decision, context, job);
  await job.step('Choose the network', async (report) => report(describeNetwork(planned)));
  const plan = await job.step('Check the pair', (report) => checkPair(order, planned, context, job, report));
  const { from, to, decision } = planned;
  const conductor = decision.conductor === 'destination' ? to : from;
  const doubt = await context.settings.value('migration.doubt_limit', {
    host: conductor.name,
    cluster: conductor.host.cluster,
  });
  const begun: Begun = {
    order: await migrationOrder(job.id, order.vm, planned, secondsOf(doubt), context),
    conductor: conductor.name,
    pair: agentPair(from, to) === null ? [] : [from.name, to.name],
    plan,
  };
  await job.remember('begun', begun as unknown as JsonValue);
  return begun;
}

const TOO_LATE = '; it was cancelled too late: libvirt had handed it over already, or was in post-copy';

/** From the agent's preparations to the end, whatever it is; the permissions of the two agents end with it. */
async function carryThrough(
  asked: MigrateVm,
  begun: Begun,
  found: MigrationStatus | null,
  context: MigrationContext,
  job: JobContext,
): Promise<string> {
  const conductor = await requireHost(begun.conductor, context);
  const pair = await Promise.all(begun.pair.map((name) => requireHost(name, context)));
  const channel = await context.channels.of(conductor);
  let isRunning = found !== null && found.phase !== 'requested';
  try {
    if (!isRunning) {
      await channel.waitUntilUp(job.signal);
      const ahead = await job.step('Compare the clocks', (report) =>
        compareClocks(begun.order, context, job, report),
      );
      const migrationAddress = begun.plan.addresses?.migrationAddress ?? null;
      await startConducting(
        { order: begun.order, conductor, channel, pair, ahead, migrationAddress },
        context,
        job,
      );
      isRunning = true;
    }
    const status = await job.step('Migrate', async (report) => {
      const ended =
        found !== null && isEnd(found)
          ? found
          : await followMigration({
              channel,
              conductor: conductor.name,
              vm: asked.vm,
              job,
              report,
              onProgress: (words) => tellProgress(asked, words, context),
            }).catch(async (error: unknown) => {
              if (!isTrustError(error, 'migration.conductor_away')) throw error;
              throw await vmIsWhere(begun.plan, error.message, context, job);
            });
      const last = isStopping(job) ? ended : await withCutOff(ended, begun.order, pair, context);
      job.migration(last);
      report(last.phase === 'done' ? describeProof(last) : (last.error?.message ?? last.phase));
      // Who cancelled it knows why it did not arrive.
      if (last.phase === 'cancelled' && job.signal.reason instanceof Cancelled) throw job.signal.reason;
      concluded(asked, last);
      return last;
    });
    return concluded(asked, status) + (job.signal.reason instanceof Cancelled ? TOO_LATE : '');
  } finally {
    if (!isStopping(job)) {
      if (!isRunning) await forget(channel, job.id);
      await takeGrantsBack(job.id, pair, context);
      await lookAgain(begun.plan, context);
    }
  }
}

/** Whoever follows the manager's events sees how far it is. */
function tellProgress({ vm, from, to }: MigrateVm, words: string, { events, log }: MigrationContext): void {
  events
    .publish({ kind: 'migration.progress', subject: vm, message: `${from} to ${to}: ${words}` })
    .catch((error: unknown) => log.warn({ vm, reason: describeError(error) }, 'event lost'));
}

/** Whether only the manager stops: the migration goes on, and this job with it at the next start. */
function isStopping({ signal }: JobContext): boolean {
  return signal.aborted && !(signal.reason instanceof Cancelled);
}

/** What was prepared and not begun is let go of, with its key. */
async function forget(
  channel: Awaited<ReturnType<MigrationContext['channels']['of']>>,
  id: string,
): Promise<void> {
  const signal = AbortSignal.timeout(LOOK_MS);
  await channel.agent.call(cancelMigration, { params: { id } }, { signal }).catch(() => {
    // It never heard of it, or it is away: what is not started ends by itself.
  });
}

const LOOK_MS = 20_000;

/** Both hosts have other VMs now. */
async function lookAgain({ from, to }: MigrationPlan, context: MigrationContext): Promise<void> {
  const hosts = await Promise.all([from, to].map((name) => context.repository.find(name)));
  await Promise.all(
    hosts
      .filter((host): host is Host => host !== null && context.channels.stateOf(host.id)?.kind === 'up')
      .map((host) =>
        collect(host.name, context, AbortSignal.timeout(LOOK_MS)).catch((error: unknown) =>
          context.log.warn(
            { host: host.name, reason: describeError(error) },
            'a host was not looked at after a migration',
          ),
        ),
      ),
  );
}

function describeNetwork({ addresses, to, decision }: PlannedMigration): string {
  const { libvirtAddress, migrationAddress, interface: name } = addresses;
  if (decision.conductor === 'destination')
    return `libvirt of the source at ${addresses.sourceAddress}, QEMU's stream to ${migrationAddress}`;
  const libvirt =
    libvirtAddress === migrationAddress || decision.mode === 'pinned' ? '' : `, libvirt at ${libvirtAddress}`;
  return `${migrationAddress}${name === null ? '' : ` on ${name}`} of ${to.name}${libvirt}`;
}
