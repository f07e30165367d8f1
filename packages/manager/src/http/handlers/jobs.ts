import type { Job } from '@virt-trust/contract/model/job.ts';
import type { JobRunner } from '../../jobs/job-runner.ts';
import { pageOf, sequenceOf } from '../cursor.ts';
import type { Handlers, ServerSentEvent } from '../handlers.ts';

/** Jobs, and each as a stream of its changes. */
export function jobHandlers(
  jobs: JobRunner,
): Pick<Handlers, 'listJobs' | 'getJob' | 'cancelJob' | 'watchJob'> {
  return {
    listJobs: ({ query }) =>
      pageOf(
        query,
        (before, limit) => jobs.list(sequenceOf(before), limit),
        ({ sequence }) => String(sequence),
        ({ job }) => job,
      ),
    getJob: ({ params }) => jobs.get(params.id),
    cancelJob: ({ params, actor }) => jobs.cancel(params.id, actor.auditName),
    watchJob: async ({ params, lastEventId, signal }) => {
      // An unknown job is a problem document rather than a stream that ends.
      await jobs.get(params.id);
      return streamOf(jobs.follow(params.id, signal), lastEventId);
    },
  };
}

async function* streamOf(
  changes: AsyncIterable<{ revision: number; job: Job }>,
  lastEventId: string | undefined,
): AsyncGenerator<ServerSentEvent> {
  for await (const { revision, job } of changes) {
    // A client that comes back has seen this one already.
    if (String(revision) !== lastEventId) yield { id: String(revision), event: 'job', data: job };
  }
}
