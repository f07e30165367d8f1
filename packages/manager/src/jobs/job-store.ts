import type { Instant } from '@virt-trust/base/instant.ts';
import type { JsonValue } from '@virt-trust/base/json.ts';
import type { JobState } from '@virt-trust/contract/model/job.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { EventDraft } from '../events/event-log.ts';
import type { IdempotencyKey, JobRecord } from './job.ts';

/** What is said about a change of a job, kept in the same transaction. */
export interface JobNotes {
  readonly audit: readonly AuditDraft[];
  readonly events: readonly EventDraft[];
}

/** Where jobs are kept. */
export interface JobStore {
  /** Adds a job, or returns the one that was made under its idempotency key. */
  add(record: Omit<JobRecord, 'sequence'>, notes: JobNotes): Promise<JobRecord>;
  save(record: JobRecord, notes: JobNotes): Promise<void>;
  get(id: string): Promise<JobRecord | undefined>;
  /** The job made under a key, whatever its digest. */
  findByKey(key: IdempotencyKey): Promise<JobRecord | undefined>;
  /** Jobs with a sequence below `before`, newest first. */
  list(before: number | undefined, limit: number): Promise<JobRecord[]>;
  /** Queued and running jobs, oldest first. */
  unfinished(): Promise<JobRecord[]>;
  remember(id: string, key: string, value: JsonValue): Promise<void>;
  recall(id: string, key: string): Promise<JsonValue | undefined>;
  countByState(): Promise<ReadonlyMap<JobState, number>>;
  /** Forgets jobs that were over before a time. */
  prune(finishedBefore: Instant): Promise<void>;
}
