import { failureOf, jobChanges } from '@virt-trust/cli/job-watch.ts';
import type { ManagerClient } from '@virt-trust/cli/manager-client.ts';
import { bar } from '@virt-trust/cli/migration-progress.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { Steps } from './steps.ts';

/**
 * Follows a job of the manager to its end and shows its steps as ours; throws its error where it failed. Steps begun
 * before `since` are left out: those of a job that is taken up again are done again.
 */
export async function showJob(
  client: ManagerClient,
  job: Job,
  steps: Steps,
  signal: AbortSignal,
  since = 0,
): Promise<Job> {
  let shown = 0;
  let last = job;
  try {
    for await (const current of jobChanges(client, job, signal)) {
      last = current;
      for (const step of stepsSince(current, since).slice(shown)) {
        if (step.state === 'running') {
          steps.underWay(step.name, current.progress === null ? step.detail : bar(current.progress));
          break;
        }
        const time = (step.finishedAt ?? step.startedAt) - step.startedAt;
        steps.ended(step.state === 'done' ? '✔' : '✖', step.name, time, step.detail);
        shown += 1;
      }
    }
  } catch (error) {
    const under = stepsSince(last, since).at(shown);
    if (signal.aborted && under !== undefined) steps.line(`– ${under.name} - stopped`);
    throw error;
  }
  if (last.state !== 'done') throw failureOf(last);
  return last;
}

function stepsSince(job: Job, since: number): Job['steps'] {
  return job.steps.filter((step) => step.startedAt >= since);
}
