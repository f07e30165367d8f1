import { TrustError } from '@virt-trust/base/error.ts';
import { requestPath } from '@virt-trust/contract/client.ts';
import { getJob, watchJob } from '@virt-trust/contract/manager/operations.ts';
import { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { ManagerClient } from './manager-client.ts';
import { printable, writeJson, writeLine, writeNote } from './output.ts';

/** Follows a job until it is over, showing its steps; throws its error where it failed. */
export async function followJob(
  client: ManagerClient,
  job: Job,
  options: { readonly json?: boolean },
): Promise<Job> {
  const view = options.json === true ? null : new JobView();
  const interrupted = new AbortController();
  const onInterrupt = () => interrupted.abort(stopped(job));
  process.once('SIGINT', onInterrupt);
  try {
    const last = await lastOf(client, job, view, interrupted.signal);
    view?.finish();
    if (options.json === true) writeJson(last);
    if (last.state === 'done') {
      if (options.json !== true && last.result !== null) writeLine(last.result);
      return last;
    }
    throw failureOf(last);
  } finally {
    view?.finish();
    process.off('SIGINT', onInterrupt);
  }
}

async function lastOf(
  client: ManagerClient,
  job: Job,
  view: JobView | null,
  signal: AbortSignal,
): Promise<Job> {
  let last = job;
  for await (const current of jobChanges(client, job, signal)) {
    view?.show(current);
    last = current;
  }
  return last;
}

/** A job now and at each change; the last one is over. Throws `cli.stream_cut` where the manager goes away. */
export async function* jobChanges(client: ManagerClient, job: Job, signal: AbortSignal): AsyncGenerator<Job> {
  const path = requestPath(watchJob, { id: job.id }, undefined);
  for await (const event of client.events(path, signal)) {
    const current = validatorOf(Job)(event, 'event of the job');
    yield current;
    if (isOver(current)) return;
  }
  signal.throwIfAborted();
  // The stream ended early: the manager was restarted, say. What is true is what it says now.
  const now = await client.call(getJob, { params: { id: job.id } });
  if (isOver(now)) {
    yield now;
    return;
  }
  throw new TrustError(
    'cli.stream_cut',
    'unavailable',
    `cannot follow job ${job.id}: the manager closed the connection`,
    {
      hint: `the job goes on; follow it with: virt-trust job watch ${job.id}`,
    },
  );
}

/** Whether nothing of the job is still to come. */
export function isOver(job: Job): boolean {
  return job.state === 'done' || job.state === 'failed' || job.state === 'cancelled';
}

function stopped(job: Job): TrustError {
  return new TrustError('cli.interrupted', 'failed', `stopped watching job ${job.id}; it goes on`, {
    hint: `follow it with: virt-trust job watch ${job.id}; stop it with: virt-trust job cancel ${job.id}`,
  });
}

/** The error of a job that did not end well. */
export function failureOf(job: Job): TrustError {
  if (job.error === null) return new TrustError('job.cancelled', 'failed', `job ${job.id} was cancelled`);
  const hint = job.error.hint;
  return new TrustError(job.error.code, 'failed', job.error.message, hint === null ? {} : { hint });
}

/** One line a step with its time; on a terminal the step under way is redrawn with its progress. */
class JobView {
  readonly #terminal = process.stderr.isTTY === true;
  #shown = 0;
  #open = false;

  show(job: Job): void {
    this.finish();
    for (const step of job.steps.slice(this.#shown)) {
      if (step.state === 'running') break;
      const seconds = ((step.finishedAt ?? step.startedAt) - step.startedAt) / 1000;
      const detail = step.detail === '' ? '' : ` - ${step.detail}`;
      writeNote(`${step.state === 'done' ? '✔' : '✖'} ${step.name} (${seconds.toFixed(1)} s)${detail}`);
      this.#shown += 1;
    }
    const running = job.steps[this.#shown];
    if (this.#terminal && running !== undefined && !isOver(job)) {
      const text = `… ${running.name} ${job.progress === null ? running.detail : bar(job.progress)}`;
      process.stderr.write(printable(text).slice(0, (process.stderr.columns ?? 80) - 1));
      this.#open = true;
    }
  }

  /** Takes the redrawn line away. */
  finish(): void {
    if (this.#open) process.stderr.write('\r\u001b[K');
    this.#open = false;
  }
}

/** How far a migration is, as a bar with figures. */
export function bar(progress: MigrationProgress): string {
  const filled = Math.round(progress.percent / 5);
  const rate = (progress.bytesPerSecond / 2 ** 20).toFixed(0);
  return `[${'#'.repeat(filled)}${'.'.repeat(20 - filled)}] ${progress.percent.toFixed(0)} % ${(progress.processedBytes / 2 ** 20).toFixed(0)} MiB, ${rate} MiB/s`;
}
