import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { JsonValue } from '@virt-trust/base/json.ts';
import type { Job, JobState } from '@virt-trust/contract/model/job.ts';
import type { IdempotencyKey, JobRecord } from '../jobs/job.ts';
import type { JobNotes, JobStore } from '../jobs/job-store.ts';
import { appendAudit } from './audit-log.ts';
import type { Database, Row } from './database.ts';
import { appendEvent } from './event-store.ts';
import { flag, integer, json, text, textOrNull, time, timeOrNull } from './row.ts';

/** The jobs in SQLite. */
export class SqliteJobStore implements JobStore {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async add(record: Omit<JobRecord, 'sequence'>, notes: JobNotes): Promise<JobRecord> {
    return this.#database.transaction(() => {
      const { job, idempotencyKey: key } = record;
      const known = key === null ? undefined : this.#byKey(key);
      if (known !== undefined) return known;
      this.#database.run(
        `insert into jobs (id, kind, subject, locks, payload, actor, state, steps, revision, created_at,
          idempotency_owner, idempotency_key, idempotency_digest, plan, warnings)
          values (?, ?, ?, ?, ?, ?, ?, '[]', ?, ?, ?, ?, ?, ?, ?)`,
        job.id,
        job.kind,
        job.subject,
        JSON.stringify(record.locks),
        JSON.stringify(record.payload),
        record.actor,
        job.state,
        record.revision,
        job.createdAt,
        key?.owner ?? null,
        key?.key ?? null,
        key?.digest ?? null,
        jsonOrNull(job.plan),
        JSON.stringify(job.warnings),
      );
      this.#note(notes);
      const row = this.#database.get('select sequence from jobs where id = ?', job.id) ?? {};
      return { ...record, sequence: integer(row, 'sequence') };
    });
  }

  async save(record: JobRecord, notes: JobNotes): Promise<void> {
    const { job } = record;
    this.#database.transaction(() => {
      this.#database.run(
        `update jobs set state = ?, cancel_requested = ?, steps = ?, progress = ?, migration = ?, plan = ?, warnings = ?, result = ?,
          error = ?, revision = ?, finished_at = ? where id = ?`,
        job.state,
        record.cancelRequested ? 1 : 0,
        JSON.stringify(job.steps),
        jsonOrNull(job.progress),
        jsonOrNull(job.migration),
        jsonOrNull(job.plan),
        JSON.stringify(job.warnings),
        job.result,
        jsonOrNull(job.error),
        record.revision,
        job.finishedAt,
        job.id,
      );
      this.#note(notes);
    });
  }

  async get(id: string): Promise<JobRecord | undefined> {
    const row = this.#database.get('select * from jobs where id = ?', id);
    return row === undefined ? undefined : recordOf(row);
  }

  async findByKey(key: IdempotencyKey): Promise<JobRecord | undefined> {
    return this.#byKey(key);
  }

  async list(before: number | undefined, limit: number): Promise<JobRecord[]> {
    return this.#database
      .all(
        'select * from jobs where sequence < ? order by sequence desc limit ?',
        before ?? Number.MAX_SAFE_INTEGER,
        limit,
      )
      .map(recordOf);
  }

  async unfinished(): Promise<JobRecord[]> {
    return this.#database
      .all("select * from jobs where state in ('queued', 'running') order by sequence")
      .map(recordOf);
  }

  async remember(id: string, key: string, value: JsonValue): Promise<void> {
    this.#database.run(
      'insert into job_memories (job, key, value) values (?, ?, ?) on conflict do update set value = excluded.value',
      id,
      key,
      JSON.stringify(value),
    );
  }

  async recall(id: string, key: string): Promise<JsonValue | undefined> {
    const row = this.#database.get('select value from job_memories where job = ? and key = ?', id, key);
    return row === undefined ? undefined : json<JsonValue>(row, 'value');
  }

  async countByState(): Promise<ReadonlyMap<JobState, number>> {
    const rows = this.#database.all('select state, count(*) as jobs from jobs group by state');
    return new Map(rows.map((row) => [text(row, 'state') as JobState, integer(row, 'jobs')]));
  }

  async prune(finishedBefore: Instant): Promise<void> {
    this.#database.run('delete from jobs where finished_at < ?', finishedBefore);
  }

  #byKey(key: IdempotencyKey): JobRecord | undefined {
    const row = this.#database.get(
      'select * from jobs where idempotency_owner = ? and idempotency_key = ?',
      key.owner,
      key.key,
    );
    return row === undefined ? undefined : recordOf(row);
  }

  #note(notes: JobNotes): void {
    appendAudit(this.#database, this.#clock, notes.audit);
    for (const event of notes.events) appendEvent(this.#database, this.#clock, event);
  }
}

function jsonOrNull(value: object | null): string | null {
  return value === null ? null : JSON.stringify(value);
}

function recordOf(row: Row): JobRecord {
  return {
    sequence: integer(row, 'sequence'),
    job: {
      id: text(row, 'id'),
      kind: text(row, 'kind') as Job['kind'],
      subject: text(row, 'subject'),
      state: text(row, 'state') as JobState,
      steps: json<Job['steps']>(row, 'steps'),
      progress: row['progress'] === null ? null : json<Job['progress']>(row, 'progress'),
      result: textOrNull(row, 'result'),
      migration: row['migration'] === null ? null : json<Job['migration']>(row, 'migration'),
      plan: row['plan'] === null ? null : json<Job['plan']>(row, 'plan'),
      warnings: json<Job['warnings']>(row, 'warnings'),
      error: row['error'] === null ? null : json<Job['error']>(row, 'error'),
      createdAt: time(row, 'created_at'),
      finishedAt: timeOrNull(row, 'finished_at'),
    },
    payload: json<object>(row, 'payload'),
    actor: text(row, 'actor'),
    locks: json<string[]>(row, 'locks'),
    cancelRequested: flag(row, 'cancel_requested'),
    revision: integer(row, 'revision'),
    idempotencyKey:
      row['idempotency_key'] === null
        ? null
        : {
            owner: text(row, 'idempotency_owner'),
            key: text(row, 'idempotency_key'),
            digest: text(row, 'idempotency_digest'),
          },
  };
}
