import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { lineOf } from '@virt-trust/contract/text.ts';
import type {
  FailedRenewal,
  FreezeChange,
  RenewalControl,
  RenewalRow,
  RenewalStore,
} from '../renewal/renewal-store.ts';
import { appendAudit } from './audit-log.ts';
import type { Database, Row } from './database.ts';
import { appendEvent } from './event-store.ts';
import { flag, integer, text, textOrNull, time, timeOrNull } from './row.ts';

function rowOf(row: Row): RenewalRow {
  return {
    host: text(row, 'host'),
    service: text(row, 'service') as Service,
    serialNumber: text(row, 'serial_number'),
    notAfter: time(row, 'not_after'),
    dueAt: time(row, 'due_at'),
    away: flag(row, 'away'),
    failures: integer(row, 'failures'),
    lastFailedAt: timeOrNull(row, 'last_failed_at'),
    lastFailure: textOrNull(row, 'last_failure'),
    futile: text(row, 'futile'),
  };
}

/** The renewals in SQLite. */
export class SqliteRenewalStore implements RenewalStore {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async of(host: string): Promise<readonly RenewalRow[]> {
    return this.#database.all('select * from renewals where host = ? order by service', host).map(rowOf);
  }

  async bySerial(serialNumber: string): Promise<RenewalRow | null> {
    // SECURITY: a host that says it serves another's certificate would else be renewed in its place.
    const row = this.#database.get(
      `select renewals.* from renewals left join certificates
          on certificates.serial_number = renewals.serial_number
        where renewals.serial_number = ? and (certificates.serial_number is null
          or (certificates.host = renewals.host and certificates.service = renewals.service))`,
      serialNumber,
    );
    return row === undefined ? null : rowOf(row);
  }

  async list(filter: {
    readonly host: string | null;
    readonly limit: number;
  }): Promise<readonly RenewalRow[]> {
    const rows =
      filter.host === null
        ? this.#database.all('select * from renewals order by due_at, host, service limit ?', filter.limit)
        : this.#database.all(
            'select * from renewals where host = ? order by due_at, service limit ?',
            filter.host,
            filter.limit,
          );
    return rows.map(rowOf);
  }

  async plan(
    host: string,
    rows: readonly Pick<RenewalRow, 'service' | 'serialNumber' | 'notAfter' | 'dueAt'>[],
  ): Promise<void> {
    this.#database.transaction(() => {
      // Removed meanwhile: there is nothing to keep.
      if (this.#database.get('select 1 from hosts where name = ?', host) === undefined) return;
      for (const known of this.#database.all('select service from renewals where host = ?', host)) {
        const service = text(known, 'service');
        if (rows.some((row) => row.service === service)) continue;
        this.#database.run('delete from renewals where host = ? and service = ?', host, service);
      }
      for (const row of rows) {
        this.#database.run(
          `insert into renewals (host, service, serial_number, not_after, due_at) values (?, ?, ?, ?, ?)
            on conflict do update set not_after = excluded.not_after, due_at = excluded.due_at,
            away = iif(serial_number = excluded.serial_number, away, 0),
            first = iif(serial_number = excluded.serial_number, first, 0),
            failures = iif(serial_number = excluded.serial_number, failures, 0),
            last_failed_at = iif(serial_number = excluded.serial_number, last_failed_at, null),
            last_failure = iif(serial_number = excluded.serial_number, last_failure, null),
            wave_failed_at = iif(serial_number = excluded.serial_number, wave_failed_at, null),
            serial_number = excluded.serial_number`,
          host,
          row.service,
          row.serialNumber,
          row.notAfter,
          row.dueAt,
        );
      }
    });
  }

  async dueHosts(now: Instant, limit: number): Promise<readonly string[]> {
    return this.#database
      .all(
        `select host from renewals indexed by renewals_by_due where due_at <= ? and away = 0
          and not exists (select 1 from revocations where revocations.serial_number = renewals.serial_number)
          and not exists (select 1 from revoked_hosts where revoked_hosts.host = renewals.host)
          group by host order by max(first) desc, min(not_after), host limit ?`,
        now,
        limit,
      )
      .map((row) => text(row, 'host'));
  }

  async nextDue(after: Instant): Promise<Instant | null> {
    const row = this.#database.get(
      'select min(due_at) as at from renewals indexed by renewals_by_due where due_at > ? and away = 0',
      after,
    );
    return row === undefined ? null : timeOrNull(row, 'at');
  }

  async markAway(host: string): Promise<void> {
    this.#database.run(
      'update renewals set away = 1 where host = ? and due_at <= ?',
      host,
      this.#clock.now(),
    );
  }

  async markBack(host: string): Promise<boolean> {
    return (
      this.#database.run('update renewals set away = 0, first = 1 where host = ? and away = 1', host) > 0
    );
  }

  async failed({ host, services, message, counts }: FailedRenewal): Promise<void> {
    const now = this.#clock.now();
    this.#database.transaction(() => {
      for (const service of services) {
        this.#database.run(
          `update renewals set failures = failures + 1, last_failed_at = ?, last_failure = ?, first = 0,
            wave_failed_at = iif(?, ?, wave_failed_at) where host = ? and service = ?`,
          now,
          lineOf(message),
          counts ? 1 : 0,
          now,
          host,
          service,
        );
      }
    });
  }

  async succeeded(
    host: string,
    futile: Readonly<Partial<Record<Service, string>>>,
    counts: boolean,
  ): Promise<void> {
    this.#database.transaction(() => {
      for (const [service, differences] of Object.entries(futile)) {
        this.#database.run(
          'update renewals set futile = ?, failures = 0, last_failed_at = null, last_failure = null, wave_failed_at = null where host = ? and service = ?',
          differences,
          host,
          service,
        );
      }
      if (!counts) return;
      this.#database.run(
        'update renewal_control set last_success_at = ?, wave_successes = wave_successes + 1',
        this.#clock.now(),
      );
    });
  }

  async failures(limit: number): Promise<readonly RenewalRow[]> {
    return this.#database
      .all('select * from renewals where failures > 0 order by host, service limit ?', limit)
      .map(rowOf);
  }

  async control(): Promise<RenewalControl> {
    return this.#control();
  }

  #control(): RenewalControl {
    const row = this.#database.get('select * from renewal_control') ?? {};
    return {
      frozen: flag(row, 'frozen'),
      frozenBy: textOrNull(row, 'frozen_by'),
      reason: text(row, 'reason'),
      since: timeOrNull(row, 'since'),
      waveBeganAt: timeOrNull(row, 'wave_began_at'),
      waveSuccesses: integer(row, 'wave_successes'),
    };
  }

  async setFreeze({ frozen, by, reason, audit, event }: FreezeChange): Promise<RenewalControl> {
    return this.#database.transaction(() => {
      const now = this.#clock.now();
      if (frozen) {
        this.#database.run(
          'update renewal_control set frozen = 1, frozen_by = ?, reason = ?, since = ?, wave_began_at = null, wave_successes = 0',
          by,
          lineOf(reason),
          now,
        );
      } else {
        this.#database.run(
          `update renewal_control set frozen = 0, frozen_by = null, reason = ?, since = null, wave_began_at = null,
            wave_successes = 0, counted_from = ?`,
          lineOf(reason),
          now,
        );
      }
      appendAudit(this.#database, this.#clock, [audit]);
      appendEvent(this.#database, this.#clock, event);
      return this.#control();
    });
  }

  async beginWave(): Promise<void> {
    this.#database.run(
      'update renewal_control set wave_began_at = ?, wave_successes = 0 where wave_began_at is null',
      this.#clock.now(),
    );
  }

  async endWave(): Promise<void> {
    this.#database.run('update renewal_control set wave_began_at = null, wave_successes = 0');
  }

  async countFailures(): Promise<number> {
    const count = (since: string): number => {
      const row = this.#database.get(
        `select count(distinct host) as failed from renewals, renewal_control
          where wave_failed_at > counted_from and ${since}`,
      );
      return row === undefined ? 0 : integer(row, 'failed');
    };
    return Math.max(count('wave_failed_at > last_success_at'), count('wave_failed_at >= wave_began_at'));
  }
}
