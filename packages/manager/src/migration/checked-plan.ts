import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import { type PlannedMigration, planOf } from './planning.ts';
import { blocking, type PreflightContext, preflightOf } from './preflight.ts';

/**
 * The plan of a migration with what both hosts were found to have against it. Where no mode is feasible the one that
 * was wanted most is checked all the same: what is found says what stands in its way.
 */
export async function checkedPlan(
  vm: string,
  planned: PlannedMigration,
  context: PreflightContext,
  signal: AbortSignal,
  handshakes = true,
): Promise<MigrationPlan> {
  const plan = planOf(vm, planned);
  const { decision, from, to, addresses, options } = planned;
  const mode = decision.mode ?? decision.order[0];
  if (mode === undefined) return plan;
  const answer = await preflightOf({ vm, mode, from, to, addresses, options, handshakes }, context, signal);
  const findings = [...refusal(planned), ...answer.findings].slice(0, 512);
  return {
    ...plan,
    findings,
    handshakes: answer.handshakes.slice(0, 64),
    ready: decision.mode !== null && blocking(findings).length === 0,
  };
}

/** That no mode is feasible is the first thing that is wrong. */
function refusal({ decision }: PlannedMigration): Finding[] {
  if (decision.mode !== null) return [];
  return [
    {
      code: 'mode.none',
      severity: 'error',
      host: null,
      what: decision.explanation.slice(0, 8000),
      fix: decision.hint ?? 'see what each host can do: virt-trust host list',
    },
  ];
}
