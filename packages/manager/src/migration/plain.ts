import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationDecision } from '@virt-trust/contract/model/migration-plan.ts';
import type { JobContext } from '../jobs/job.ts';
import type { MigrationContext } from './context.ts';

/** Notes, once and before anything is sent, that a VM crosses the network in the clear: in the log and in the audit. */
export async function notePlain(
  { vm, from, to }: Pick<MigrateVm, 'vm' | 'from' | 'to'>,
  { warnings }: MigrationDecision,
  { log, audit }: Pick<MigrationContext, 'log' | 'audit'>,
  job: JobContext,
): Promise<void> {
  if ((await job.recall('plain')) !== undefined) return;
  const warning = warnings.join('; ');
  log.warn({ job: job.id, vm, from, to }, warning);
  await audit.append({
    actor: job.actor,
    action: 'migration.plain',
    subject: `${vm} from ${from} to ${to}`,
    outcome: 'intent',
    detail: `job ${job.id}: ${warning}`,
  });
  await job.remember('plain', true);
}
