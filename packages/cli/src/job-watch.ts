import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { requestPath } from '@virt-trust/contract/client.ts';
import { getJob, watchJob } from '@virt-trust/contract/manager/job-operations.ts';
import { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { ManagerClient } from './manager-client.ts';
import { bar, isLineDue } from './migration-progress.ts';
import { printable, writeErrorLine, writeJson, writeLine, writeNote } from './output.ts';

/** Follows a job until it is over, showing its steps; throws its error where it failed. */
export async function followJob(
  client: ManagerClient,
  job: Job,
  options: { readonly json?: boolean },
): Promise<Job> {
  const view = options.json === true ? null : new JobView();
  const warnings = new Warnings();
  warnings.show(job);
  const interrupted = new AbortController();
  const onInterrupt = () => interrupted.abort(stopped(job));
  process.once('SIGINT', onInterrupt);
  try {
    const last = await lastOf(client, job, { view, warnings }, interrupted.signal);
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
  { view, warnings }: { readonly view: JobView | null; readonly warnings: Warnings },
  signal: AbortSignal,
): Promise<Job> {
  let last = job;
  for await (const current of jobChanges(client, job, signal)) {
    view?.finish();
    warnings.show(current);
    view?.show(current);
    last = current;
  }
  return last;
}

/** A job now and at each change; the last one is over. Throws `cli.stream_cut` where the manager goes away. */
export async function* jobChanges(client: ManagerClient, job: Job, signal: AbortSignal): AsyncGenerator<Job> {
  const path = requestPath(watchJob, { id: job.id }, undefined);
  try {
    for await (const event of client.events(path, signal)) {
      const current = validatorOf(Job)(event, 'event of the job');
      yield current;
      if (isOver(current)) return;
    }
  } catch (error) {
    signal.throwIfAborted();
    // A connection that broke is as one that ended; what the manager said is said on.
    if (isTrustError(error)) throw error;
  }
  signal.throwIfAborted();
  // The stream ended early: the manager was restarted, say. What is true is what it says now.
  const now = await client.call(getJob, { params: { id: job.id } }).catch((cause: unknown) => {
    throw streamCut(job, describeError(cause), cause);
  });
  if (!isOver(now)) throw streamCut(job, 'the manager closed the connection');
  yield now;
}

function streamCut({ id }: Job, reason: string, cause?: unknown): TrustError {
  return new TrustError('cli.stream_cut', 'unavailable', `cannot follow job ${id}: ${reason}`, {
    cause,
    hint: `the job goes on, once the manager is there again; follow it then with: virt-trust job watch ${id}`,
  });
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

/** The error of a job that did not end well: with its category, so that it ends the command as the same error of a request. */
export function failureOf(job: Job): TrustError {
  if (job.error === null)
    return new TrustError('job.cancelled', 'failed', `job ${job.id} was cancelled${whereItStays(job)}`);
  const { code, category = 'failed', message, hint } = job.error;
  return new TrustError(code, category, message, hint === null ? {} : { hint });
}

/** Of a migration that was cancelled: where its VM is. */
function whereItStays({ migration, plan }: Job): string {
  if (migration?.runsOn === 'source')
    return `: ${migration.vm} is on ${plan?.from ?? 'its source'} as before`;
  if (migration?.runsOn === 'destination')
    return `: ${migration.vm} is on ${plan?.to ?? 'its destination'} all the same`;
  return '';
}

/** What whoever asked should know, once each, also where the answer is for programs. */
class Warnings {
  readonly #shown = new Set<string>();

  show({ warnings }: Job): void {
    for (const warning of warnings.filter((one) => !this.#shown.has(one))) {
      this.#shown.add(warning);
      writeErrorLine('warning', warning);
    }
  }
}

/** One line a step with its time; on a terminal the step under way is redrawn with its progress. */
class JobView {
  readonly #terminal = process.stderr.isTTY === true;
  #shown = 0;
  #open = false;
  #queued = false;
  #told: MigrationProgress | null = null;

  show(job: Job): void {
    this.finish();
    for (const step of job.steps.slice(this.#shown)) {
      if (step.state === 'running') break;
      const seconds = ((step.finishedAt ?? step.startedAt) - step.startedAt) / 1000;
      const detail = step.detail === '' ? '' : ` - ${step.detail}`;
      writeNote(`${step.state === 'done' ? '✔' : '✖'} ${step.name} (${seconds.toFixed(1)} s)${detail}`);
      this.#shown += 1;
    }
    if (job.state === 'queued') this.#tellQueued(job);
    const running = job.steps[this.#shown];
    if (running === undefined || isOver(job)) return;
    if (this.#terminal) {
      const now = job.progress === null ? running.detail : bar(job.progress);
      const text = `… ${running.name}${now === '' ? '' : ` - ${now}`}`;
      // Room is left for the ^C that a terminal writes there.
      process.stderr.write(printable(text).slice(0, (process.stderr.columns ?? 80) - 3));
      this.#open = true;
    } else if (job.progress !== null) this.#tellLine(running.name, job.progress);
  }

  /** Once: what was asked for before comes first. */
  #tellQueued({ id }: Job): void {
    if (this.#queued) return;
    this.#queued = true;
    writeNote(
      `… waits for another job to end (see: virt-trust job list); not to wait: virt-trust job cancel ${id}`,
    );
  }

  #tellLine(name: string, progress: MigrationProgress): void {
    if (!isLineDue(this.#told, progress)) return;
    this.#told = progress;
    writeNote(`… ${name} ${bar(progress)}`);
  }

  /** Takes the redrawn line away. */
  finish(): void {
    if (this.#open) process.stderr.write('\r\u001b[K');
    this.#open = false;
  }
}
