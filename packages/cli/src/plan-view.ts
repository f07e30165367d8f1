import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import { writeLine, writeTable } from './output.ts';

/** How a VM would migrate, why so, and what stands in its way. */
export function writePlan({ vm, from, to, decision, findings, handshakes, ready }: MigrationPlan): void {
  writeLine(`${vm} from ${from} to ${to}: ${ready ? 'ready' : 'not ready'}`);
  writeLine(`  ${decision.explanation}`);
  if (decision.hint !== null) writeLine(`  hint: ${decision.hint}`);
  for (const warning of decision.warnings) writeLine(`  warning: ${warning}`);
  for (const { severity, host, what, fix } of findings)
    writeLine(`  ${severity}${host === null ? '' : ` on ${host}`}: ${what}; ${fix}`);
  if (handshakes.length === 0) return;
  writeLine();
  writeTable(
    ['service', 'from', 'to', 'target', 'verified', 'outcome'],
    handshakes.map((one) => [one.service, one.from, one.to, one.target, one.verified, one.outcome]),
  );
}
