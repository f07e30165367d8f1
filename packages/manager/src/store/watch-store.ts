import type { Clock } from '@virt-trust/base/clock.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { AgentEvent } from '@virt-trust/contract/model/agent-event.ts';
import { auditsOf } from '../hosts/audited-events.ts';
import type { WatchStore } from '../hosts/watching.ts';
import { appendAudit } from './audit-log.ts';
import type { Database } from './database.ts';
import { appendEvent } from './event-store.ts';
import { integer } from './row.ts';

/** Up to where hosts were followed, in SQLite. */
export class SqliteWatchStore implements WatchStore {
  readonly #database: Database;
  readonly #clock: Clock;
  /** Wakes those who follow the manager's events. */
  readonly #onEvents: () => void;

  constructor(database: Database, clock: Clock, onEvents: () => void) {
    this.#database = database;
    this.#clock = clock;
    this.#onEvents = onEvents;
  }

  async position(id: HostId): Promise<number | null> {
    const row = this.#database.get('select sequence from host_watches where host = ?', id);
    return row === undefined ? null : integer(row, 'sequence');
  }

  async advance(id: HostId, host: string, position: number, events: readonly AgentEvent[]): Promise<void> {
    this.#database.transaction(() => {
      const row = this.#database.get('select sequence from host_watches where host = ?', id);
      const known = row === undefined ? 0 : integer(row, 'sequence');
      // A follower that was let go may come late: what another has taken meanwhile is not told twice.
      const fresh = events.filter((event) => event.sequence > known);
      if (events.length > 0 && fresh.length === 0) return;
      const kept = this.#database.run(
        `insert into host_watches (host, sequence) select id, ? from hosts where id = ?
          on conflict do update set sequence = excluded.sequence`,
        position,
        id,
      );
      // Of a host that was removed meanwhile nothing is kept.
      if (kept === 0) return;
      for (const { kind, subject, message } of fresh)
        appendEvent(this.#database, this.#clock, {
          kind: `host.${kind}`,
          subject: host,
          message: subject === '' ? message : `${subject}: ${message}`,
        });
      appendAudit(this.#database, this.#clock, auditsOf(host, fresh));
    });
    if (events.length > 0) this.#onEvents();
  }
}
