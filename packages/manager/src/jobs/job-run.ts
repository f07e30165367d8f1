import type { Clock } from '@virt-trust/base/clock.ts';
import type { JsonValue } from '@virt-trust/base/json.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import { lineOf, textOf } from '@virt-trust/contract/text.ts';
import type { JobContext, JobRecord } from './job.ts';
import type { JobNotes, JobStore } from './job-store.ts';

const NOTHING: JobNotes = { audit: [], events: [] };
const MOST_STEPS = 256;
/** As many as the contract has room for. */
const MOST_WARNINGS = 64;

/** One job in this process: the record as it is now, written behind in the order of its changes. */
export class JobRun implements JobContext {
  readonly #store: JobStore;
  readonly #clock: Clock;
  readonly #changed: (run: JobRun) => void;
  readonly awaited: () => boolean;
  readonly #controller = new AbortController();
  #record: JobRecord;
  #writing: Promise<void> = Promise.resolve();
  #dirty = false;

  constructor(
    record: JobRecord,
    store: JobStore,
    clock: Clock,
    changed: (run: JobRun) => void,
    isAwaited: (run: JobRun) => boolean,
  ) {
    this.#record = record;
    this.#store = store;
    this.#clock = clock;
    this.#changed = changed;
    this.awaited = () => isAwaited(this);
  }

  get record(): JobRecord {
    return this.#record;
  }

  get id(): string {
    return this.#record.job.id;
  }

  get subject(): string {
    return this.#record.job.subject;
  }

  get actor(): string {
    return this.#record.actor;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  async step<T>(name: string, run: (report: (detail: string) => void) => Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    const step = lineOf(name);
    this.#note(step, { state: 'running', detail: '', startedAt: this.#clock.now(), finishedAt: null });
    try {
      const result = await run((detail) => this.#note(step, { detail: textOf(detail) }));
      this.#note(step, { state: 'done', finishedAt: this.#clock.now() });
      return result;
    } catch (error) {
      this.#note(step, { state: 'failed', finishedAt: this.#clock.now() });
      throw error;
    }
  }

  progress(progress: MigrationProgress): void {
    this.#change({ progress });
  }

  migration(status: MigrationStatus): void {
    this.#change({ migration: status, progress: status.progress ?? this.#record.job.progress });
  }

  plan(plan: MigrationPlan): void {
    this.#change({ plan, warnings: [...plan.decision.warnings] });
  }

  warn(warnings: readonly string[]): void {
    const known = this.#record.job.warnings;
    const fresh = warnings.filter((one) => !known.includes(one));
    if (fresh.length > 0) this.#change({ warnings: [...known, ...fresh].slice(0, MOST_WARNINGS) });
  }

  async remember(key: string, value: JsonValue): Promise<void> {
    await this.#store.remember(this.id, key, value);
  }

  async recall(key: string): Promise<JsonValue | undefined> {
    return this.#store.recall(this.id, key);
  }

  /** Keeps a change of the job's state with what is said about it, after all that was reported before. */
  async transition(change: Partial<Job>, notes: JobNotes, cancelRequested?: boolean): Promise<void> {
    await this.#writing.catch(() => {});
    const next = this.#next(change, cancelRequested);
    await this.#store.save(next, notes);
    this.#record = next;
    this.#changed(this);
  }

  /** Waits until all that was reported is kept; throws where it could not be. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  #note(name: string, change: Partial<Job['steps'][number]>): void {
    const steps = [...this.#record.job.steps];
    const index = steps.findIndex((step) => step.name === name);
    const known = steps[index];
    if (known !== undefined) steps[index] = { ...known, ...change };
    else if (steps.length < MOST_STEPS) {
      const fresh = {
        name,
        state: 'running',
        detail: '',
        startedAt: this.#clock.now(),
        finishedAt: null,
      } as const;
      steps.push({ ...fresh, ...change });
    }
    this.#change({ steps });
  }

  #next(change: Partial<Job>, cancelRequested = this.#record.cancelRequested): JobRecord {
    const { job, revision } = this.#record;
    return { ...this.#record, job: { ...job, ...change }, cancelRequested, revision: revision + 1 };
  }

  /** Shows a change at once and keeps it soon; changes of the same turn are kept together. */
  #change(change: Partial<Job>): void {
    this.#record = this.#next(change);
    this.#changed(this);
    if (this.#dirty) return;
    this.#dirty = true;
    this.#writing = this.#writing.then(async () => {
      this.#dirty = false;
      await this.#store.save(this.#record, NOTHING);
    });
    // Rejections are seen by flush; until then they must not count as unhandled.
    this.#writing.catch(() => {});
  }
}
