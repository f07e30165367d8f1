import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { parseSpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Revocation, RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { parseSerialNumber, type SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type {
  CertificateChange,
  CertificateIntent,
  CertificateRecord,
  CertificateRepository,
  ChangeOutcome,
  Holder,
} from '../issuance/certificate-record.ts';
import { appendAudit } from './audit-log.ts';
import { barHost } from './barred-hosts.ts';
import type { Database, Row } from './database.ts';
import { bytes, integer, text, textOrNull, time, timeOrNull } from './row.ts';

const DONE: ChangeOutcome = { kind: 'done' };

function holderOf(row: Row): Holder {
  const host = textOrNull(row, 'host');
  return host === null
    ? { kind: 'client', heldBy: textOrNull(row, 'held_by') }
    : { kind: 'host', host, service: text(row, 'service') as Service };
}

function recordOf(row: Row): CertificateRecord {
  return {
    sequence: integer(row, 'sequence'),
    serialNumber: parseSerialNumber(text(row, 'serial_number')),
    authority: text(row, 'authority'),
    profile: text(row, 'profile'),
    holder: holderOf(row),
    pin: parseSpkiPin(text(row, 'pin')),
    tbs: bytes(row, 'tbs'),
    issuedAt: time(row, 'issued_at'),
    notAfter: time(row, 'not_after'),
    state:
      row['signature'] === null
        ? { kind: 'recorded' }
        : { kind: 'issued', signature: bytes(row, 'signature') },
    revocation: revocationOf(row),
  };
}

function revocationOf(row: Row): Revocation | null {
  const at = timeOrNull(row, 'revoked_at');
  if (at === null) return null;
  return {
    at,
    reason: text(row, 'reason') as RevocationReason,
    by: text(row, 'revoked_by'),
    comment: text(row, 'comment'),
  };
}

const SELECT = `select certificates.*, revocations.at as revoked_at, revocations.reason, revocations.comment,
  revocations.actor as revoked_by
  from certificates left join revocations on revocations.serial_number = certificates.serial_number`;

/** The certificates in SQLite. */
export class SqliteCertificateStore implements CertificateRepository {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async commit(changes: readonly CertificateChange[]): Promise<readonly ChangeOutcome[]> {
    return this.#database.durableTransaction(() => {
      const audit: AuditDraft[] = [];
      const outcomes = changes.map((change) => {
        const outcome = this.#apply(change);
        if (change.kind !== 'issued' && outcome.kind === 'done') audit.push(change.audit);
        return outcome;
      });
      appendAudit(this.#database, this.#clock, audit);
      return outcomes;
    });
  }

  async find(serialNumber: SerialNumber): Promise<CertificateRecord | null> {
    const row = this.#database.get(`${SELECT} where certificates.serial_number = ?`, serialNumber);
    return row === undefined ? null : recordOf(row);
  }

  async list(filter: {
    readonly before: number | null;
    readonly host: string | null;
    readonly limit: number;
  }): Promise<readonly CertificateRecord[]> {
    const before = filter.before ?? Number.MAX_SAFE_INTEGER;
    const rows =
      filter.host === null
        ? this.#database.all(
            `${SELECT} where certificates.sequence < ? order by certificates.sequence desc limit ?`,
            before,
            filter.limit,
          )
        : this.#database.all(
            `${SELECT} where host = ? and certificates.sequence < ? order by certificates.sequence desc limit ?`,
            filter.host,
            before,
            filter.limit,
          );
    return rows.map(recordOf);
  }

  #apply(change: CertificateChange): ChangeOutcome {
    switch (change.kind) {
      case 'record':
        return this.#record(change.intent);
      case 'adopt':
        return this.#adopt(change);
      case 'issued': {
        const changed = this.#database.run(
          'update certificates set signature = coalesce(signature, ?) where serial_number = ?',
          change.signature,
          change.serialNumber,
        );
        if (changed === 1) return DONE;
        throw new TrustError(
          'issuance.not_recorded',
          'internal',
          `cannot mark certificate ${change.serialNumber} issued: it is not recorded`,
        );
      }
    }
  }

  #adopt({ intent, signature }: CertificateChange & { kind: 'adopt' }): ChangeOutcome {
    const holder = this.#claimKey(intent);
    if (holder !== undefined) return { kind: 'key-reused', holder };
    this.#insert(intent);
    this.#heedRevocation(intent);
    return this.#apply({ kind: 'issued', serialNumber: intent.serialNumber, signature });
  }

  /** SECURITY: who still serves what a CRL of before a restore revokes must not renew itself back. */
  #heedRevocation({ serialNumber, holder, notAfter }: CertificateIntent): void {
    const row = this.#database.get(
      'select at, reason, comment from revocations where serial_number = ?',
      serialNumber,
    );
    if (row === undefined) return;
    this.#database.run(
      'update revocations set not_after = ? where serial_number = ?',
      notAfter,
      serialNumber,
    );
    if (holder.kind !== 'host') return;
    const { at, reason, comment } = {
      at: time(row, 'at'),
      reason: text(row, 'reason') as RevocationReason,
      comment: text(row, 'comment'),
    };
    barHost(this.#database, holder.host, { at, reason, comment });
  }

  #record(intent: CertificateIntent): ChangeOutcome {
    const bearer = intent.holder.kind === 'host' ? intent.holder.host : intent.holder.heldBy;
    // SECURITY: inside the transaction that records, so that nothing is certified while the host is being revoked.
    if (bearer !== null && this.#isRevoked(bearer)) return { kind: 'host-revoked', host: bearer };
    const holder = this.#claimKey(intent);
    if (holder !== undefined) return { kind: 'key-reused', holder };
    if (this.#isCompromised(intent)) return { kind: 'key-compromised' };
    this.#insert(intent);
    return DONE;
  }

  /** SECURITY: a key that somebody else may have is certified for nobody again. */
  #isCompromised({ pin, holder }: CertificateIntent): boolean {
    if (holder.kind !== 'host') return false;
    const row = this.#database.get(
      `select 1 from certificates join revocations on revocations.serial_number = certificates.serial_number
        where host = ? and pin = ? and reason = 'keyCompromise'`,
      holder.host,
      pin,
    );
    return row !== undefined;
  }

  #insert(intent: CertificateIntent): void {
    const { holder: own } = intent;
    this.#database.run(
      `insert into certificates (serial_number, authority, profile, host, service, held_by, pin, issued_at, not_after, tbs)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      intent.serialNumber,
      intent.authority,
      intent.profile,
      own.kind === 'host' ? own.host : null,
      own.kind === 'host' ? own.service : null,
      own.kind === 'client' ? own.heldBy : null,
      intent.pin,
      intent.issuedAt,
      intent.notAfter,
      intent.tbs,
    );
  }

  #isRevoked(host: string): boolean {
    return this.#database.get('select 1 from revoked_hosts where host = ?', host) !== undefined;
  }

  /** SECURITY: claimed inside the transaction that records, so that two requests with one key cannot both pass. */
  #claimKey({ pin, holder }: CertificateIntent): Holder | undefined {
    const host = holder.kind === 'host' ? holder.host : null;
    const service = holder.kind === 'host' ? holder.service : null;
    const claimed = this.#database.run(
      'insert into certified_keys (pin, host, service) values (?, ?, ?) on conflict do nothing',
      pin,
      host,
      service,
    );
    if (claimed === 1) return undefined;
    const row = this.#database.get('select host, service from certified_keys where pin = ?', pin) ?? {};
    // A host may have its own key certified again; a client's key is made for one certificate.
    const same = host !== null && row['host'] === host && row['service'] === service;
    return same ? undefined : holderOf({ held_by: null, ...row });
  }
}
