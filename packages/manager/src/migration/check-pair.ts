import { randomUUID } from 'node:crypto';
import { type ErrorCategory, TrustError } from '@virt-trust/base/error.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import type { JobContext } from '../jobs/job.ts';
import type { MigrationContext } from './context.ts';
import { type PlannedMigration, planOf } from './planning.ts';
import { blocking, preflightOf } from './preflight.ts';

/**
 * A plan with what both agents found out about it by real handshakes. Where no mode is feasible, the one that was wanted
 * most is checked all the same: what is found says what stands in its way.
 */
export async function checkedPlan(
  { vm, force }: Pick<MigrateVm, 'vm' | 'force'>,
  planned: PlannedMigration,
  context: MigrationContext,
  signal: AbortSignal,
  id?: string,
): Promise<MigrationPlan> {
  const plan = planOf(vm, planned);
  const { from, to, addresses, options, decision } = planned;
  const mode = decision.mode ?? decision.order[0];
  if (mode === undefined) return plan;
  const answer = await preflightOf(
    { vm, mode, from, to, addresses, options, handshakes: true },
    context,
    signal,
    id,
  );
  const findings = [...noMode(planned), ...answer.findings];
  return {
    ...plan,
    findings: findings.slice(0, 512),
    handshakes: answer.handshakes.slice(0, 64),
    ready: decision.mode !== null && blocking(findings, force === true).length === 0,
  };
}

/** That no mode is feasible is the first thing that is wrong. */
function noMode({ decision }: PlannedMigration): Finding[] {
  if (decision.mode !== null) return [];
  const fix = decision.hint ?? 'see what each host can do: virt-trust host list';
  const what = decision.explanation.slice(0, 8000);
  return [{ code: 'mode.none', severity: 'error', host: null, what, fix }];
}

/** Checks a pair before a migration; throws `migration.preflight` with the first thing that would make it fail. */
export async function checkPair(
  order: MigrateVm,
  planned: PlannedMigration,
  context: MigrationContext,
  job: JobContext,
  report: (detail: string) => void,
): Promise<MigrationPlan> {
  const id = ((await job.recall('preflight')) as string | undefined) ?? randomUUID();
  // The agents' permissions go by it: whoever does this anew after the manager died takes them back, too.
  await job.remember('preflight', id);
  const plan = await checkedPlan(order, planned, context, job.signal, id);
  // What was not asked any more is no finding.
  job.signal.throwIfAborted();
  job.plan(plan);
  const against = blocking(plan.findings, order.force === true);
  if (against[0] !== undefined) throw refusal(order, against[0], against);
  const forced = blocking(plan.findings);
  if (forced.length > 0) await noteForced(order, forced, context, job);
  report(
    forced.length > 0
      ? `forced in spite of: ${forced.map(({ what }) => what).join('; ')}`
      : `nothing found that would make it fail (${plan.handshakes.length} handshakes)`,
  );
  return plan;
}

async function noteForced(
  { vm, from, to }: MigrateVm,
  findings: readonly Finding[],
  { audit }: Pick<MigrationContext, 'audit'>,
  job: JobContext,
): Promise<void> {
  await audit.append({
    actor: job.actor,
    action: 'migration.forced',
    subject: `${vm} from ${from} to ${to}`,
    outcome: 'intent',
    detail: `job ${job.id}: ${findings.map(({ code, what }) => `${code}: ${what}`).join('; ')}`,
  });
}

/** What follows from a host being away, and says no more than that. */
const NOT_REACHED: ReadonlySet<string> = new Set(['port.closed', 'port.filtered', 'network.unreachable']);

/** Whether to try again will do, what was named is not there, or something has to be mended first. */
function categoryOf(findings: readonly Finding[]): ErrorCategory {
  const away = new Set(
    findings.filter(({ code }) => code === 'agent.unreachable').map(({ host }) => host ?? ''),
  );
  const isAway = ({ code, host }: Finding) =>
    code === 'agent.unreachable' || (NOT_REACHED.has(code) && away.has(host ?? ''));
  if (findings.every(isAway)) return 'unavailable';
  return findings.every(({ code }) => code === 'vm.unknown') ? 'not-found' : 'conflict';
}

function refusal({ vm, from, to }: MigrateVm, first: Finding, all: readonly Finding[]): TrustError {
  const what = all.map((one) => one.what).join('; ');
  return new TrustError(
    'migration.preflight',
    categoryOf(all),
    `cannot migrate ${vm} from ${from} to ${to}: ${what}`,
    {
      hint:
        all
          .map(({ fix }) => fix)
          .filter((fix, index, fixes) => fixes.indexOf(fix) === index)
          .join('; ') || first.fix,
    },
  );
}
