import type { TrustError } from '@virt-trust/base/error.ts';
import type { JsonValue } from '@virt-trust/base/json.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';

type JobKind = Job['kind'];

/** What a kind of job does. After a crash `run` is called again from the start: each step finds what is already done. */
export interface JobDefinition<Payload extends object = object> {
  readonly kind: JobKind;
  /** False where stopping half way would leave something half done; such a job is cancelled while queued only. */
  readonly cancellable?: boolean;
  /** Why one that runs cannot be stopped any more as it stands now; undefined where it can. */
  readonly tooLate?: (job: Job) => TrustError | undefined;
  /** True where it runs at once, however many jobs run already. */
  readonly urgent?: boolean;
  /** Returns what came of it, for people. The payload is JSON and never holds a secret. */
  run(payload: Payload, context: JobContext): Promise<string>;
}

/** What a running job has of its runner. */
export interface JobContext {
  readonly id: string;
  readonly subject: string;
  /** Who asked for it, as the audit log names them. */
  readonly actor: string;
  /** Aborted when the job is cancelled or the manager stops; a job that stops for the latter runs again at the next start. */
  readonly signal: AbortSignal;
  /** Runs one step, recorded with its start, its end and the last detail reported; throws at once where `signal` is aborted. */
  step<T>(name: string, run: (report: (detail: string) => void) => Promise<T>): Promise<T>;
  progress(progress: MigrationProgress): void;
  migration(status: MigrationStatus): void;
  /** Whether another job waits until this one is over; absent where nobody can know. */
  readonly awaited?: () => boolean;
  /** How a migration was decided and checked; its warnings become the job's. */
  plan(plan: MigrationPlan): void;
  /** What whoever asked should know besides; each is said once. */
  warn(warnings: readonly string[]): void;
  /** Keeps, durably, what must not be done or made twice; never a secret. */
  remember(key: string, value: JsonValue): Promise<void>;
  /** What was remembered under the key, in this run or one before. */
  recall(key: string): Promise<JsonValue | undefined>;
}

/** A request that may be sent again: who sent it, the key they gave it and the digest of what they asked. */
export interface IdempotencyKey {
  readonly owner: string;
  readonly key: string;
  readonly digest: string;
}

/** What is asked of the runner. */
export interface JobOrder<Payload extends object> {
  readonly subject: string;
  readonly payload: Payload;
  readonly actor: string;
  /** Jobs that share a lock run one after the other, in order; `[subject]` where not said. */
  readonly locks?: readonly string[];
  readonly idempotencyKey?: IdempotencyKey | undefined;
  /** Of a migration: how it was decided, with what whoever asked should know at once. */
  readonly plan?: MigrationPlan;
  readonly warnings?: readonly string[];
}

/** A job as it is kept. */
export interface JobRecord {
  readonly sequence: number;
  readonly job: Job;
  readonly payload: object;
  readonly actor: string;
  readonly locks: readonly string[];
  readonly cancelRequested: boolean;
  /** Grows with each change. */
  readonly revision: number;
  readonly idempotencyKey: IdempotencyKey | null;
}

/** True for a job that nothing happens to any more. */
export function isOver(job: Job): boolean {
  switch (job.state) {
    case 'queued':
    case 'running':
      return false;
    case 'done':
    case 'failed':
    case 'cancelled':
      return true;
  }
}
