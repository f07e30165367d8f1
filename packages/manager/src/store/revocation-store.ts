import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { RevokedParty } from '@virt-trust/contract/model/crl.ts';
import { parseTbsCertificate } from '@virt-trust/pki/certificate.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import {
  CANARY,
  type CertificateStatus,
  type CrlContent,
  type ListedRevocation,
  type LiveCertificate,
  type RevocationOrder,
  type RevocationOutcome,
  type RevocationRepository,
} from '../revocation/revocation.ts';
import { appendAudit } from './audit-log.ts';
import { barHost } from './barred-hosts.ts';
import { noteCrlChange } from './crl-changes.ts';
import type { Database, Row } from './database.ts';
import { bytes, integer, json, text, textOrNull, time } from './row.ts';

/** What one request to an agent may name. */
const MAX_PARTIES = 64;

const REVOKED = 'select 1 from revocations where revocations.serial_number = certificates.serial_number';
const LIVE = `not_after > ? and not exists (${REVOKED})`;
const LIVE_OR_HELD = `not_after > ? and not exists (${REVOKED} and reason <> 'certificateHold')`;

/** Revocations in SQLite. */
export class SqliteRevocationStore implements RevocationRepository {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async revoke(order: RevocationOrder): Promise<readonly RevocationOutcome[]> {
    return this.#database.durableTransaction(() => this.#revoke(order));
  }

  async revokeHost({
    host,
    bar,
    ...order
  }: Parameters<RevocationRepository['revokeHost']>[0]): Promise<readonly SerialNumber[]> {
    return this.#database.durableTransaction(() => {
      const now = this.#clock.now();
      if (bar) {
        barHost(this.#database, host.name, { at: now, reason: order.reason, comment: order.comment });
      }
      // SECURITY: what is on hold is revoked for good with the others, or it could be released.
      const which = order.reason === 'certificateHold' ? LIVE : LIVE_OR_HELD;
      const live = this.#live(host.name, now, 'all', which).map(({ serialNumber }) => serialNumber);
      const outcomes = this.#revoke({ ...order, host, serials: live });
      const fresh = live.filter((_, index) => outcomes[index]?.kind === 'revoked');
      const before = this.#database
        .all('select serial_number from revocations where origin = ?', order.origin)
        .map((row) => text(row, 'serial_number') as SerialNumber);
      return [...new Set([...before, ...fresh])];
    });
  }

  async release(
    serialNumber: SerialNumber,
    actor: string,
  ): Promise<{ authority: string; reason: RevocationReason } | null> {
    return this.#database.transaction(() => {
      const row = this.#database.get(
        'select authority, reason from revocations where serial_number = ?',
        serialNumber,
      );
      if (row === undefined) return null;
      const found = { authority: text(row, 'authority'), reason: text(row, 'reason') as RevocationReason };
      if (found.reason !== 'certificateHold') return found;
      this.#database.run('delete from revocations where serial_number = ?', serialNumber);
      noteCrlChange(this.#database, found.authority, 1);
      const audit = { actor, action: 'certificate.release', subject: serialNumber, outcome: 'done' } as const;
      appendAudit(this.#database, this.#clock, [{ ...audit, detail: 'off hold' }]);
      return found;
    });
  }

  async lift(host: string): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run('delete from revoked_hosts where host = ?', host);
      // Its new certificates have the same subject: its sessions are its own again.
      this.#database.run('delete from revoked_parties where host = ?', host);
    });
  }

  status(authority: string, serialNumber: SerialNumber): CertificateStatus {
    const found = this.statusOf(serialNumber);
    return found.authority === authority ? found : { kind: 'unknown' };
  }

  statusOf(serialNumber: SerialNumber): CertificateStatus & { authority?: string } {
    // SECURITY: it counts also where the certificate is not known: learnt from a CRL after a restore.
    const revoked = this.#database.get(
      'select authority, at, reason from revocations where serial_number = ?',
      serialNumber,
    );
    if (revoked !== undefined) {
      return {
        kind: 'revoked',
        at: time(revoked, 'at'),
        reason: text(revoked, 'reason') as RevocationReason,
        authority: text(revoked, 'authority'),
      };
    }
    const row = this.#database.get(
      'select authority from certificates where serial_number = ?',
      serialNumber,
    );
    return row === undefined ? { kind: 'unknown' } : { kind: 'good', authority: text(row, 'authority') };
  }

  changes(authority: string): number {
    const row = this.#database.get('select changes from crl_changes where authority = ?', authority);
    return row === undefined ? 0 : integer(row, 'changes');
  }

  content(authority: string, read: { readonly rewrites: number; readonly through: number }): CrlContent {
    return this.#database.transaction(() => {
      const row = this.#database.get(
        'select changes, rewrites from crl_changes where authority = ?',
        authority,
      );
      const rewrites = row === undefined ? 0 : integer(row, 'rewrites');
      const from = rewrites === read.rewrites ? read.through : 0;
      const listed = this.#database
        .all(
          `select sequence, serial_number, at, reason, origin from revocations
            where authority = ? and listed = 1 and sequence > ? order by sequence`,
          authority,
          from,
        )
        .map(listedOf);
      return { changes: row === undefined ? 0 : integer(row, 'changes'), rewrites, listed, from };
    });
  }

  async live(host: string, now: Instant, which: 'all' | 'services'): Promise<readonly LiveCertificate[]> {
    return this.#live(host, now, which);
  }

  async parties(since: Instant): Promise<readonly RevokedParty[]> {
    return this.#database
      .all(
        'select subjects, addresses from revoked_parties where at >= ? order by sequence desc limit ?',
        since,
        MAX_PARTIES,
      )
      .map(partyOf)
      .toReversed();
  }

  async partyOf(origin: string): Promise<readonly RevokedParty[]> {
    return this.#database
      .all('select subjects, addresses from revoked_parties where origin = ?', origin)
      .map(partyOf);
  }

  #live(host: string, now: Instant, which: 'all' | 'services', live = LIVE): LiveCertificate[] {
    const own = this.#database.all(
      `select serial_number, authority, service, tbs from certificates where host = ? and ${live}`,
      host,
      now,
    );
    const clients =
      which === 'services'
        ? []
        : this.#database.all(
            `select serial_number, authority, service, tbs from certificates where held_by = ? and ${live}`,
            host,
            now,
          );
    return [...own, ...clients].map((row) => ({
      serialNumber: text(row, 'serial_number') as SerialNumber,
      authority: text(row, 'authority'),
      service: textOrNull(row, 'service'),
      tbs: bytes(row, 'tbs'),
    }));
  }

  #revoke(order: RevocationOrder): RevocationOutcome[] {
    const at = this.#clock.now();
    const audit: AuditDraft[] = [];
    const subjects = new Set<string>();
    const touched = new Map<string, number>();
    const outcomes = order.serials.map((serialNumber) => {
      const row = this.#database.get(
        'select authority, not_after, tbs from certificates where serial_number = ?',
        serialNumber,
      );
      if (row === undefined) return { kind: 'unknown' } as const;
      const held = this.#isHeld(serialNumber);
      const outcome = this.#revokeOne(serialNumber, row, order, at);
      if (outcome.kind !== 'revoked') return outcome;
      const authority = text(row, 'authority');
      touched.set(authority, Math.max(touched.get(authority) ?? 0, held ? 1 : 0));
      for (const subject of subjectsOf(bytes(row, 'tbs'))) subjects.add(subject);
      const detail = `${order.reason}${order.comment === '' ? '' : `: ${order.comment}`}`;
      const { actor } = order;
      audit.push({ actor, action: 'certificate.revoke', subject: serialNumber, outcome: 'done', detail });
      return outcome;
    });
    for (const [authority, rewrites] of touched) noteCrlChange(this.#database, authority, rewrites);
    if (order.origin !== CANARY && (subjects.size > 0 || order.host !== undefined)) {
      this.#noteParty(order, at, [...subjects]);
    }
    appendAudit(this.#database, this.#clock, audit);
    return outcomes;
  }

  #revokeOne(
    serialNumber: SerialNumber,
    certificate: Row,
    order: RevocationOrder,
    at: Instant,
  ): RevocationOutcome {
    const { reason, actor, comment, origin } = order;
    const before = this.#database.get(
      'select at, reason, origin from revocations where serial_number = ?',
      serialNumber,
    );
    if (before !== undefined) {
      if (before['origin'] === origin) return { kind: 'done-before' };
      const held = before['reason'] === 'certificateHold' && reason !== 'certificateHold';
      if (!held) {
        return {
          kind: 'already',
          at: time(before, 'at'),
          reason: text(before, 'reason') as RevocationReason,
        };
      }
      // Revoked for good from when it was put on hold.
      this.#database.run(
        'update revocations set reason = ?, actor = ?, comment = ?, origin = ? where serial_number = ?',
        reason,
        actor,
        comment,
        origin,
        serialNumber,
      );
      return { kind: 'revoked' };
    }
    this.#database.run(
      `insert into revocations (serial_number, authority, at, reason, actor, comment, not_after, origin)
        values (?, ?, ?, ?, ?, ?, ?, ?)`,
      serialNumber,
      text(certificate, 'authority'),
      at,
      reason,
      actor,
      comment,
      integer(certificate, 'not_after'),
      origin,
    );
    return { kind: 'revoked' };
  }

  #noteParty(order: RevocationOrder, at: Instant, subjects: readonly string[]): void {
    this.#database.run(
      `insert into revoked_parties (at, host, origin, subjects, addresses) values (?, ?, ?, ?, ?)
        on conflict (origin) do nothing`,
      at,
      order.host?.name ?? null,
      order.origin,
      JSON.stringify(subjects.slice(0, MAX_PARTIES)),
      JSON.stringify((order.host?.addresses ?? []).slice(0, MAX_PARTIES)),
    );
    this.#database.run(
      `delete from revoked_parties where sequence <= (select max(sequence) - 1000 from revoked_parties)`,
    );
  }

  #isHeld(serialNumber: SerialNumber): boolean {
    const row = this.#database.get('select reason from revocations where serial_number = ?', serialNumber);
    return row?.['reason'] === 'certificateHold';
  }
}

/** A subject in either order of its RDNs: which one libvirt prints depends on its GnuTLS. */
export function subjectsOf(tbs: Uint8Array): string[] {
  const subject = formatName(parseTbsCertificate(tbs).subject);
  return [
    subject,
    subject
      .split(/(?<!\\),/)
      .toReversed()
      .join(','),
  ];
}

function listedOf(row: Row): ListedRevocation {
  return {
    sequence: integer(row, 'sequence'),
    serialNumber: text(row, 'serial_number') as SerialNumber,
    at: time(row, 'at'),
    reason: text(row, 'reason') as RevocationReason,
    canary: row['origin'] === CANARY,
  };
}

function partyOf(row: Row): RevokedParty {
  return { subjects: json<string[]>(row, 'subjects'), addresses: json<string[]>(row, 'addresses') };
}
