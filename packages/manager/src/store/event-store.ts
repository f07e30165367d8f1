import type { Clock } from '@virt-trust/base/clock.ts';
import type { ManagerEvent } from '@virt-trust/contract/model/manager-event.ts';
import { lineOf, textOf } from '@virt-trust/contract/text.ts';
import type { EventDraft, EventStore } from '../events/event-log.ts';
import type { Database } from './database.ts';
import { integer, text, time } from './row.ts';

/** How many events are kept. */
const KEPT = 100_000;

/** Appends an event inside the caller's transaction; the caller wakes the EventLog afterwards. */
export function appendEvent(database: Database, clock: Clock, draft: EventDraft): void {
  database.run(
    'insert into events (at, kind, subject, message) values (?, ?, ?, ?)',
    clock.now(),
    lineOf(draft.kind),
    lineOf(draft.subject),
    textOf(draft.message),
  );
}

/** The events in SQLite. */
export class SqliteEventStore implements EventStore {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async append(draft: EventDraft): Promise<void> {
    this.#database.transaction(() => appendEvent(this.#database, this.#clock, draft));
  }

  async list(after: number, limit: number): Promise<ManagerEvent[]> {
    return this.#database
      .all('select * from events where sequence > ? order by sequence limit ?', after, limit)
      .map((row) => ({
        sequence: integer(row, 'sequence'),
        at: time(row, 'at'),
        kind: text(row, 'kind'),
        subject: text(row, 'subject'),
        message: text(row, 'message'),
      }));
  }

  async last(): Promise<number> {
    const row = this.#database.get('select coalesce(max(sequence), 0) as last from events');
    return row === undefined ? 0 : integer(row, 'last');
  }

  /** Drops the oldest events beyond what is kept. */
  trim(): void {
    this.#database.run('delete from events where sequence <= (select max(sequence) from events) - ?', KEPT);
  }
}
