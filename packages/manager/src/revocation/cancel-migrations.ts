import { isTrustError } from '@virt-trust/base/error.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { JobRunner } from '../jobs/job-runner.ts';

/** Cancels the migrations from and to a host that wait or run; answers how many. */
export async function cancelMigrations(
  host: string,
  actor: string,
  jobs: Pick<JobRunner, 'unfinished' | 'cancel'>,
): Promise<number> {
  let cancelled = 0;
  for (const { job, payload } of jobs.unfinished('migrate')) {
    const { order } = payload as { readonly order: MigrateVm };
    if (order.from !== host && order.to !== host) continue;
    try {
      await jobs.cancel(job.id, actor);
      cancelled += 1;
    } catch (error) {
      // It came to its end by itself.
      if (!isTrustError(error, 'job.over')) throw error;
    }
  }
  return cancelled;
}
