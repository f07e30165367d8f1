import type { Clock } from '@virt-trust/base/clock.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { Crl, CrlAtHost, CrlRepository } from '../revocation/crl.ts';
import { appendAudit } from './audit-log.ts';
import type { Database, Row } from './database.ts';
import { bytes, integer, text, textOrNull, time } from './row.ts';

/** CRLs in SQLite, and which host has which; the newest are in memory too, since each answer of the status needs them. */
export class SqliteCrlStore implements CrlRepository {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #newest = new Map<string, Crl>();

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
    for (const row of database.all('select * from crls')) {
      const crl = crlOf(row);
      this.#newest.set(crl.authority, crl);
    }
  }

  find(authority: string): Crl | null {
    return this.#newest.get(authority) ?? null;
  }

  knows(authority: string, number: number): boolean {
    return (
      this.#database.get(
        'select 1 from crl_numbers where authority = ? and number = ?',
        authority,
        number,
      ) !== undefined
    );
  }

  highest(authority: string): number {
    const row = this.#database.get(
      'select max(number) as number from crl_numbers where authority = ?',
      authority,
    );
    return row === undefined || row['number'] === null ? 0 : integer(row, 'number');
  }

  async keep(
    crl: Crl,
    gone: { readonly through: number; readonly endedBefore: Instant },
    audit: AuditDraft,
  ): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#database.run(
        `insert into crls (authority, number, this_update, next_update, changes, entries, host_entries, canary, whole,
          for_hosts) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
          on conflict (authority) do update set number = excluded.number, this_update = excluded.this_update,
          next_update = excluded.next_update, changes = excluded.changes, entries = excluded.entries,
          host_entries = excluded.host_entries, canary = excluded.canary, whole = excluded.whole,
          for_hosts = excluded.for_hosts`,
        crl.authority,
        crl.number,
        crl.thisUpdate,
        crl.nextUpdate,
        crl.changes,
        crl.entries,
        crl.hostEntries,
        crl.canary,
        crl.whole,
        crl.forHosts === crl.whole ? null : crl.forHosts,
      );
      noteCrlNumber(this.#database, crl.authority, crl.number);
      const left = this.#database.run(
        'update revocations set listed = 0 where authority = ? and listed = 1 and sequence <= ? and not_after < ?',
        crl.authority,
        gone.through,
        gone.endedBefore,
      );
      if (left > 0) {
        this.#database.run(
          'update crl_changes set rewrites = rewrites + 1 where authority = ?',
          crl.authority,
        );
      }
      appendAudit(this.#database, this.#clock, [audit]);
    });
    this.#newest.set(crl.authority, crl);
  }

  async deliveries(): Promise<readonly CrlAtHost[]> {
    return this.#database.all('select * from crl_deliveries order by host, authority').map(atHostOf);
  }

  async deliveriesTo(host: HostId): Promise<readonly CrlAtHost[]> {
    return this.#database.all('select * from crl_deliveries where host = ?', host).map(atHostOf);
  }

  async delivered(entries: readonly CrlAtHost[]): Promise<void> {
    this.#database.transaction(() => {
      for (const entry of entries) {
        this.#database.run(
          `insert into crl_deliveries (host, authority, number, next_update, at, failure)
            select id, ?, ?, ?, ?, ? from hosts where id = ?
            on conflict (host, authority) do update set number = excluded.number, next_update = excluded.next_update,
            at = excluded.at, failure = excluded.failure`,
          entry.authority,
          entry.number,
          entry.nextUpdate,
          entry.at,
          entry.failure,
          entry.host,
        );
      }
    });
  }
}

/** So many numbers of an authority are kept; a host that holds an older one is asked for it once more. */
const NUMBERS_KEPT = 10_000;

/** Notes, within a transaction, that all is known that the CRL of a number says; false where it was noted before. */
export function noteCrlNumber(database: Database, authority: string, number: number): boolean {
  const added = database.run(
    'insert into crl_numbers (authority, number) values (?, ?) on conflict do nothing',
    authority,
    number,
  );
  database.run(
    `delete from crl_numbers where authority = ? and number < (select number from crl_numbers where authority = ?
      order by number desc limit 1 offset ?)`,
    authority,
    authority,
    NUMBERS_KEPT,
  );
  return added === 1;
}

function crlOf(row: Row): Crl {
  const whole = bytes(row, 'whole');
  return {
    authority: text(row, 'authority'),
    number: integer(row, 'number'),
    thisUpdate: time(row, 'this_update'),
    nextUpdate: time(row, 'next_update'),
    changes: integer(row, 'changes'),
    entries: integer(row, 'entries'),
    hostEntries: integer(row, 'host_entries'),
    canary: textOrNull(row, 'canary') as SerialNumber | null,
    whole,
    forHosts: row['for_hosts'] === null ? whole : bytes(row, 'for_hosts'),
  };
}

function atHostOf(row: Row): CrlAtHost {
  return {
    host: text(row, 'host') as HostId,
    authority: text(row, 'authority'),
    number: integer(row, 'number'),
    nextUpdate: time(row, 'next_update'),
    at: time(row, 'at'),
    failure: textOrNull(row, 'failure'),
  };
}
