import type { Clock } from '@virt-trust/base/clock.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { CrlRecoveryRepository, FoundCrl } from '../revocation/recovery-repository.ts';
import { appendAudit } from './audit-log.ts';
import { barHost } from './barred-hosts.ts';
import { noteCrlChange } from './crl-changes.ts';
import { noteCrlNumber } from './crl-store.ts';
import type { Database } from './database.ts';
import { subjectsOf } from './revocation-store.ts';
import { bytes, integer, text, textOrNull } from './row.ts';

const HOLD = 'crl_hold';
const EPOCH = "coalesce((select value from manager_numbers where name = 'epoch'), 1)";
const MAX_PARTIES = 64;

/** Reasons for which a host gets its next certificate all the same. */
const ROUTINE: ReadonlySet<RevocationReason> = new Set(['superseded', 'affiliationChanged']);

/** Holds CRLs back, for who restores a store. */
export function holdCrls(database: Database): void {
  database.run(
    'insert into manager_numbers (name, value) values (?, 1) on conflict (name) do update set value = 1',
    HOLD,
  );
}

/** What a restored store has still to learn, in SQLite. */
export class SqliteCrlRecoveryStore implements CrlRecoveryRepository {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  isHeld(): boolean {
    const row = this.#database.get('select value from manager_numbers where name = ?', HOLD);
    return row !== undefined && integer(row, 'value') === 1;
  }

  async release(audit: AuditDraft): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run('update manager_numbers set value = 0 where name = ?', HOLD);
      appendAudit(this.#database, this.#clock, [audit]);
    });
  }

  heard(): readonly HostId[] {
    return this.#database
      .all(`select host from crl_heard where epoch = ${EPOCH}`)
      .map((row) => text(row, 'host') as HostId);
  }

  async noteHeard(host: HostId): Promise<void> {
    this.#database.run(
      `insert into crl_heard (host, epoch) select id, ${EPOCH} from hosts where id = ?
        on conflict (host) do update set epoch = excluded.epoch`,
      host,
    );
  }

  async adopt(found: FoundCrl): Promise<boolean> {
    return this.#database.durableTransaction(() => {
      const { authority, host } = found;
      const number = found.number.toString(16);
      const origin = `CRL ${authority} ${number}`;
      const audit: AuditDraft[] = [];
      const subjects = new Set<string>();
      const hosts = new Map<string, RevocationReason>();
      let rewrites = 0;
      for (const entry of found.entries) {
        const added = this.#adoptOne(entry, found, origin);
        if (added === null) continue;
        if (added.rewrites) rewrites = 1;
        for (const subject of added.subjects) subjects.add(subject);
        if (added.host !== null && !ROUTINE.has(entry.reason)) hosts.set(added.host, entry.reason);
        const detail = `${entry.reason}: learnt from CRL number ${number} of ${authority}, which host ${host} holds${added.known ? '' : '; the certificate itself is not known'}`;
        audit.push({
          actor: 'manager',
          action: 'certificate.revoke',
          subject: entry.serialNumber,
          outcome: 'done',
          detail,
        });
      }
      const adopted = audit.length;
      if (adopted > 0) noteCrlChange(this.#database, authority, rewrites);
      if (subjects.size > 0) this.#noteParty(origin, null, [...subjects], []);
      for (const [name, reason] of hosts) {
        const addresses = this.#barIfBare(name, reason, number);
        // Of the host's, so that it goes when the host is taken back.
        if (addresses.length > 0) this.#noteParty(`${origin} ${name}`, name, [], addresses);
      }
      const isNew = noteCrlNumber(this.#database, authority, found.number);
      if (!isNew && adopted === 0) return false;
      audit.push({
        actor: 'manager',
        action: 'crl.adopt',
        subject: authority,
        outcome: 'done',
        detail: `number ${number}, which host ${host} holds and this store did not sign: ${adopted} of its ${found.entries.length} entries were not known`,
      });
      appendAudit(this.#database, this.#clock, audit);
      return true;
    });
  }

  /** Null where it is known already. */
  #adoptOne(
    { serialNumber, at, reason }: FoundCrl['entries'][number],
    { authority, notAfter, host, number }: FoundCrl,
    origin: string,
  ): { known: boolean; rewrites: boolean; subjects: readonly string[]; host: string | null } | null {
    const before = this.#database.get('select reason from revocations where serial_number = ?', serialNumber);
    const held = before?.['reason'] === 'certificateHold' && reason !== 'certificateHold';
    if (before !== undefined && !held) return null;
    const row = this.#database.get(
      'select host, not_after, tbs from certificates where serial_number = ?',
      serialNumber,
    );
    const comment = `learnt from CRL number ${number.toString(16)}, which host ${host} holds, after a restore`;
    if (held) {
      this.#database.run(
        'update revocations set reason = ?, actor = ?, comment = ?, origin = ? where serial_number = ?',
        reason,
        'manager',
        comment,
        origin,
        serialNumber,
      );
    } else {
      this.#database.run(
        `insert into revocations (serial_number, authority, at, reason, actor, comment, not_after, origin)
          values (?, ?, ?, ?, 'manager', ?, ?, ?)`,
        serialNumber,
        authority,
        at,
        reason,
        comment,
        row === undefined ? notAfter : integer(row, 'not_after'),
        origin,
      );
    }
    return {
      known: row !== undefined,
      rewrites: held,
      subjects: row === undefined ? [] : subjectsOf(bytes(row, 'tbs')),
      host: row === undefined ? null : textOrNull(row, 'host'),
    };
  }

  /**
   * SECURITY: a host none of whose certificates is left was revoked as a whole, and must not renew itself back. Answers
   * the addresses from which it connects.
   */
  #barIfBare(name: string, reason: RevocationReason, number: string): string[] {
    const at: Instant = this.#clock.now();
    const left = this.#database.get(
      `select 1 from certificates where host = ? and not_after > ? and not exists
        (select 1 from revocations where revocations.serial_number = certificates.serial_number) limit 1`,
      name,
      at,
    );
    if (left !== undefined) return [];
    barHost(this.#database, name, {
      at,
      reason,
      comment: `all its certificates that are known are in CRL number ${number}, learnt after a restore`,
    });
    return this.#database
      .all(
        `select value from hosts, json_each(hosts.document, '$.declared.names.addresses') where hosts.name = ?`,
        name,
      )
      .map((row) => text(row, 'value'));
  }

  #noteParty(
    origin: string,
    host: string | null,
    subjects: readonly string[],
    addresses: readonly string[],
  ): void {
    this.#database.run(
      `insert into revoked_parties (at, host, origin, subjects, addresses) values (?, ?, ?, ?, ?)
        on conflict (origin) do nothing`,
      this.#clock.now(),
      host,
      origin,
      JSON.stringify(subjects.slice(0, MAX_PARTIES)),
      JSON.stringify(addresses.slice(0, MAX_PARTIES)),
    );
  }
}
