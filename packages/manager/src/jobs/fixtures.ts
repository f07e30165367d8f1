import type { TestContext } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { EventLog } from '../events/event-log.ts';
import type { Database } from '../store/database.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { settableClock } from '../store/fixtures.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import type { JobContext, JobDefinition } from './job.ts';
import { JobRunner } from './job-runner.ts';

/** What a test's jobs do. */
export type Work = (payload: { n: number }, context: JobContext) => Promise<string>;

/** A kind of job whose work the test gives. */
export function jobOf(work: Work, cancellable = true): JobDefinition<{ n: number }> {
  return { kind: 'host-add', cancellable, run: work };
}

/** A started runner on a store; closed with the test. */
export async function startedRunner(
  t: TestContext,
  database: Database,
  definition: JobDefinition<{ n: number }>,
  concurrency = 4,
): Promise<JobRunner> {
  const clock = settableClock();
  const events = new EventLog(new SqliteEventStore(database, clock));
  const store = new SqliteJobStore(database, clock);
  const runner = new JobRunner({ store, events, clock, log: silentLog, concurrency });
  runner.register(definition);
  await runner.start();
  t.after(() => runner.close());
  return runner;
}

/** The job once it is over. */
export async function over(runner: JobRunner, id: string): Promise<Job> {
  let last: Job | undefined;
  for await (const { job } of runner.follow(id, new AbortController().signal)) last = job;
  if (last === undefined) throw new Error('no job');
  return last;
}
