import { randomUUID } from 'node:crypto';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Job, JobState } from '@virt-trust/contract/model/job.ts';
import { lineOf, textOf } from '@virt-trust/contract/text.ts';
import type { EventLog } from '../events/event-log.ts';
import { type IdempotencyKey, isOver, type JobDefinition, type JobOrder, type JobRecord } from './job.ts';
import { errorOf, eventOf, notesOf } from './job-notes.ts';
import { JobRun } from './job-run.ts';
import type { JobStore } from './job-store.ts';

export interface JobRunnerParts {
  readonly store: JobStore;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly log: Log;
  /** How many jobs run at once. */
  readonly concurrency: number;
}

class Shutdown extends Error {}
/**
 * Why the signal of a job is aborted when somebody cancelled it; a manager that stops aborts it too. A job that has to say
 * what is done by then throws `job.cancelled`, which it keeps as its error.
 */
export class Cancelled extends Error {}

/** Runs jobs: in order where they share a lock, bounded in number, again after a crash. */
export class JobRunner {
  readonly #parts: JobRunnerParts;
  readonly #definitions = new Map<string, JobDefinition>();
  /** Waiting, in order. */
  #queue: JobRun[] = [];
  readonly #running = new Map<string, { run: JobRun; settled: Promise<void> }>();
  readonly #followers = new Map<string, Set<() => void>>();
  #state: 'new' | 'started' | 'closing' = 'new';

  constructor(parts: JobRunnerParts) {
    this.#parts = parts;
  }

  /** Makes a kind of job known; before `start`. */
  register<Payload extends object>(definition: JobDefinition<Payload>): void {
    this.#definitions.set(definition.kind, definition as unknown as JobDefinition);
  }

  /** Takes up what was queued or running when the manager stopped. */
  async start(): Promise<void> {
    for (const record of await this.#parts.store.unfinished()) {
      if (this.#live(record.job.id) === undefined) this.#queue.push(this.#runOf(record));
    }
    this.#state = 'started';
    this.#schedule();
  }

  /** Queues a job, durable on return; the same order under the same idempotency key returns the same job. */
  async enqueue<Payload extends object>(
    definition: JobDefinition<Payload>,
    order: JobOrder<Payload>,
  ): Promise<Job> {
    const { clock, store, events } = this.#parts;
    const job: Job = {
      id: randomUUID(),
      kind: definition.kind,
      subject: lineOf(order.subject),
      state: 'queued',
      steps: [],
      progress: null,
      result: null,
      migration: null,
      plan: order.plan ?? null,
      warnings: [...(order.warnings ?? order.plan?.decision.warnings ?? [])],
      error: null,
      createdAt: clock.now(),
      finishedAt: null,
    };
    const record = await store.add(
      {
        job,
        payload: order.payload,
        actor: order.actor,
        locks: order.locks ?? [order.subject],
        cancelRequested: false,
        revision: 1,
        idempotencyKey: order.idempotencyKey ?? null,
      },
      notesOf(job, order.actor, 'intent', ''),
    );
    if (order.idempotencyKey !== undefined) refuseOtherRequest(record, order.idempotencyKey);
    if (record.job.id === job.id) {
      events.wake();
      this.#queue.push(this.#runOf(record));
      this.#schedule();
    }
    return record.job;
  }

  /** The job that was made under an idempotency key; throws where the key was used for another request. */
  async findByKey(key: IdempotencyKey): Promise<Job | undefined> {
    const record = await this.#parts.store.findByKey(key);
    if (record === undefined) return undefined;
    refuseOtherRequest(record, key);
    return this.#live(record.job.id)?.record.job ?? record.job;
  }

  async get(id: string): Promise<Job> {
    return (await this.#recordOf(id)).job;
  }

  /** Jobs with a sequence below `before`, newest first. */
  async list(before: number | undefined, limit: number): Promise<JobRecord[]> {
    const records = await this.#parts.store.list(before, limit);
    return records.map((record) => this.#live(record.job.id)?.record ?? record);
  }

  /** Jobs of a kind that are queued or running, in no order. */
  unfinished(kind: Job['kind']): JobRecord[] {
    const runs = [...[...this.#running.values()].map(({ run }) => run), ...this.#queue];
    return runs.map(({ record }) => record).filter(({ job }) => job.kind === kind && !isOver(job));
  }

  countByState(): Promise<ReadonlyMap<JobState, number>> {
    return this.#parts.store.countByState();
  }

  /** Cancels: a queued job at once; a running one is asked to stop. Throws where it is over or must not be stopped. */
  async cancel(id: string, actor: string): Promise<Job> {
    const run = this.#live(id);
    const { job } = run?.record ?? (await this.#recordOf(id));
    if (run === undefined || isOver(job)) {
      throw new TrustError('job.over', 'conflict', `cannot cancel job ${id}: it is over (${job.state})`);
    }
    if (!this.#running.has(id)) {
      this.#queue = this.#queue.filter((other) => other !== run);
      await this.#finish(run, { state: 'cancelled' }, actor, 'done', 'cancelled before it began');
      this.#schedule();
      return run.record.job;
    }
    if (this.#definitions.get(job.kind)?.cancellable === false) {
      throw new TrustError(
        'job.not_cancellable',
        'conflict',
        `cannot cancel job ${id}: stopping a ${job.kind} half way would leave it half done`,
        { hint: 'wait until it is over' },
      );
    }
    const tooLate = this.#definitions.get(job.kind)?.tooLate?.(job);
    if (tooLate !== undefined) throw tooLate;
    await run.transition({}, notesOf(job, actor, 'intent', 'cancel'), true);
    run.abort(new Cancelled('cancelled on request'));
    return run.record.job;
  }

  /** A job now, and again at each change, until it is over or `signal` is aborted; a slow reader sees the newest only. */
  async *follow(id: string, signal: AbortSignal): AsyncGenerator<{ revision: number; job: Job }> {
    let seen = 0;
    while (!signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const followers = this.#followers.get(id) ?? new Set();
      this.#followers.set(id, followers.add(resolve));
      const wake = (): void => resolve();
      signal.addEventListener('abort', wake);
      try {
        const { revision, job } = await this.#recordOf(id);
        if (revision !== seen) {
          seen = revision;
          yield { revision, job };
          if (isOver(job)) return;
        } else {
          await promise;
        }
      } finally {
        signal.removeEventListener('abort', wake);
        followers.delete(resolve);
        if (followers.size === 0) this.#followers.delete(id);
      }
    }
  }

  /** Forgets jobs that have been over for longer than this. */
  async prune(days: number): Promise<void> {
    await this.#parts.store.prune(instant(this.#parts.clock.now() - days * DAY));
  }

  /** Asks every running job to stop and waits for them; they run again at the next start. */
  async close(): Promise<void> {
    this.#state = 'closing';
    const settled = [...this.#running.values()].map((entry) => entry.settled);
    for (const { run } of this.#running.values()) run.abort(new Shutdown('the manager stops'));
    await Promise.all(settled);
  }

  #runOf(record: JobRecord): JobRun {
    return new JobRun(
      record,
      this.#parts.store,
      this.#parts.clock,
      (run) => {
        for (const wake of this.#followers.get(run.id) ?? []) wake();
      },
      (run) =>
        this.#queue.some((other) => other.record.locks.some((lock) => run.record.locks.includes(lock))),
    );
  }

  #live(id: string): JobRun | undefined {
    return this.#running.get(id)?.run ?? this.#queue.find((run) => run.id === id);
  }

  async #recordOf(id: string): Promise<JobRecord> {
    const record = this.#live(id)?.record ?? (await this.#parts.store.get(id));
    if (record === undefined) throw new TrustError('job.unknown', 'not-found', `cannot find job ${id}`);
    return record;
  }

  /** Starts what may run: the first in order for each of its locks, as long as there is room. */
  #schedule(): void {
    if (this.#state !== 'started') return;
    const held = new Set([...this.#running.values()].flatMap(({ run }) => run.record.locks));
    const waiting: JobRun[] = [];
    for (const run of this.#queue) {
      const urgent = this.#definitions.get(run.record.job.kind)?.urgent === true;
      const free = urgent || this.#running.size < this.#parts.concurrency;
      const blocked = run.record.locks.some((lock) => held.has(lock));
      for (const lock of run.record.locks) held.add(lock);
      if (!free || blocked) {
        waiting.push(run);
        continue;
      }
      const settled = this.#execute(run).finally(() => {
        this.#running.delete(run.id);
        this.#schedule();
      });
      this.#running.set(run.id, { run, settled });
    }
    this.#queue = waiting;
  }

  async #execute(run: JobRun): Promise<void> {
    // The caller enters the run among the running ones first.
    await Promise.resolve();
    const { job, actor, payload, cancelRequested } = run.record;
    try {
      const definition = this.#definitions.get(job.kind);
      if (definition === undefined) throw unknownKind(job);
      if (cancelRequested) run.abort(new Cancelled('cancelled on request'));
      await run.transition({ state: 'running' }, { audit: [], events: [eventOf(job, 'running', '')] });
      this.#parts.events.wake();
      const result = textOf(await definition.run(payload as never, run));
      await run.flush();
      await this.#finish(run, { state: 'done', result }, actor, 'done', result);
    } catch (error) {
      await this.#settleFailure(run, error);
    }
  }

  async #settleFailure(run: JobRun, error: unknown): Promise<void> {
    const { job, actor } = run.record;
    const { reason } = run.signal;
    // Left as running in the store: it is taken up again at the next start.
    if (reason instanceof Shutdown) return;
    try {
      if (reason instanceof Cancelled && (error === reason || (error as Error)?.name === 'AbortError')) {
        await this.#finish(run, { state: 'cancelled' }, actor, 'done', 'cancelled');
        return;
      }
      if (reason instanceof Cancelled && isTrustError(error, 'job.cancelled')) {
        const said = errorOf(error);
        await this.#finish(
          run,
          { state: 'cancelled', error: said },
          actor,
          'done',
          `cancelled: ${said.message}`,
        );
        return;
      }
      const failure = errorOf(error);
      this.#parts.log.warn(
        { job: job.id, kind: job.kind, subject: job.subject, code: failure.code },
        failure.message,
      );
      await this.#finish(run, { state: 'failed', error: failure }, actor, 'failed', failure.message);
    } catch (cause) {
      // The store itself fails (a full disk, say): the job stays running there, and is taken up at the next start.
      this.#parts.log.error({ job: job.id }, `cannot keep the end of a job: ${describeError(cause)}`);
    }
  }

  async #finish(
    run: JobRun,
    change: Partial<Job>,
    actor: string,
    outcome: 'done' | 'failed',
    detail: string,
  ): Promise<void> {
    const job = { ...run.record.job, ...change };
    await run.transition(
      { ...change, finishedAt: this.#parts.clock.now() },
      notesOf(job, actor, outcome, detail),
    );
    this.#parts.events.wake();
  }
}

function unknownKind(job: Job): TrustError {
  return new TrustError(
    'job.kind_unknown',
    'internal',
    `cannot run job ${job.id}: nothing does a ${job.kind} here`,
  );
}

function refuseOtherRequest(record: JobRecord, key: IdempotencyKey): void {
  if (record.idempotencyKey?.digest === key.digest) return;
  throw new TrustError(
    'request.idempotency_key_reused',
    'conflict',
    `cannot use Idempotency-Key ${JSON.stringify(key.key)} again: it belongs to another request (job ${record.job.id})`,
    { hint: 'send a fresh key with a new request' },
  );
}
