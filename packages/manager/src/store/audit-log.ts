import type { Clock } from '@virt-trust/base/clock.ts';
import type { AuditEntry } from '@virt-trust/contract/model/audit-entry.ts';
import { AUDIT_ORIGIN, type AuditDraft, auditHash, boundedDraft } from '../audit/audit-entry.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Database, Row } from './database.ts';
import { integer, text, time } from './row.ts';

/** Appends to the audit log inside the caller's transaction, so that an entry and what it describes are kept or lost together. */
export function appendAudit(database: Database, clock: Clock, drafts: readonly AuditDraft[]): void {
  if (drafts.length === 0) return;
  const last = database.get('select sequence, hash from audit order by sequence desc limit 1');
  let sequence = last === undefined ? 0 : integer(last, 'sequence');
  let hash = last === undefined ? AUDIT_ORIGIN : text(last, 'hash');
  for (const draft of drafts) {
    sequence += 1;
    const entry = { sequence, at: clock.now(), ...boundedDraft(draft) };
    hash = auditHash(hash, entry);
    database.run(
      'insert into audit (sequence, at, actor, action, subject, outcome, detail, hash) values (?, ?, ?, ?, ?, ?, ?, ?)',
      sequence,
      entry.at,
      entry.actor,
      entry.action,
      entry.subject,
      entry.outcome,
      entry.detail,
      hash,
    );
  }
}

function entryOf(row: Row): AuditEntry {
  return {
    sequence: integer(row, 'sequence'),
    at: time(row, 'at'),
    actor: text(row, 'actor'),
    action: text(row, 'action'),
    subject: text(row, 'subject'),
    outcome: text(row, 'outcome') as AuditEntry['outcome'],
    detail: text(row, 'detail'),
    hash: text(row, 'hash'),
  };
}

/** Entries with a sequence above `after`, oldest first. */
export function auditEntries(database: Database, after: number, limit: number): AuditEntry[] {
  return database
    .all('select * from audit where sequence > ? order by sequence limit ?', after, limit)
    .map(entryOf);
}

/** The audit log in SQLite. */
export class SqliteAuditLog implements AuditLog {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async append(drafts: readonly AuditDraft[]): Promise<void> {
    this.#database.transaction(() => appendAudit(this.#database, this.#clock, drafts));
  }

  async list(after: number, limit: number): Promise<AuditEntry[]> {
    return auditEntries(this.#database, after, limit);
  }
}
