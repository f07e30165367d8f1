import { TrustError } from '@virt-trust/base/error.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
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
    tooLate: inPostCopy,
    run: ({ order }, job) => migrate(order, context, job),
  };
}

/** libvirt refuses to end what is in post-copy: its VM runs at the destination, with memory that is at the source yet. */
function inPostCopy({ id, progress, plan }: Job): TrustError | undefined {
  if (progress?.stage !== 'post-copy' || plan === null) return undefined;
  const { vm, from, to } = plan;
  const look = `virsh domstate --reason ${virshDomain({ name: vm, uuid: null })}`;
  return new TrustError(
    'migration.post_copy',
    'conflict',
    `cannot cancel job ${id}: ${vm} runs on ${to} already, and on no other host, while the rest of its memory comes from ${from} (post-copy): from there is no way back`,
    {
      hint: `leave both hosts and the network between them alone until it is over: virt-trust job watch ${id}; on ${to}: ${look}. Then migrate it back, if it shall be on ${from}`,
    },
  );
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
