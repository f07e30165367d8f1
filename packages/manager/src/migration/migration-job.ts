import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { IdempotencyKey, JobDefinition } from '../jobs/job.ts';
import type { MigrationContext } from './context.ts';
import { migrate } from './migrate.ts';
import { assertFeasible, planMigration, planOf } from './planning.ts';

/** A migration as a durable job. */
export type MigrationJob = JobDefinition<{ order: MigrateVm }>;

/** Migrates one VM. */
export function migrationJob(context: MigrationContext): MigrationJob {
  return {
    kind: 'migrate',
    // The job that empties a host waits for these: they never wait for its place.
    urgent: true,
    run: ({ order }, job) => migrate(order, context, job),
  };
}

/** Queues a migration; throws, before there is a job, where it is refused by what is known of both hosts. */
export async function enqueueMigration(
  definition: MigrationJob,
  order: MigrateVm,
  asked: { readonly actor: string; readonly idempotencyKey: IdempotencyKey | undefined },
  context: MigrationContext,
): Promise<Job> {
  const planned = await planMigration(order, context);
  await assertFeasible(planned, context);
  return await context.jobs.enqueue(definition, {
    subject: `${order.vm} from ${order.from} to ${order.to}`,
    payload: { order },
    ...asked,
    locks: [`vm:${order.vm}`],
    plan: planOf(order.vm, planned),
  });
}
