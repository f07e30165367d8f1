import type { Clock } from '@virt-trust/base/clock.ts';
import type { Purpose } from '@virt-trust/contract/model/service.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type {
  AuthorityProvider,
  AuthorityRecord,
  AuthorityRepository,
  NewAuthorityRecord,
} from '../authorities/authority.ts';
import type { Seal, SealedPlace } from '../seal/seal.ts';
import { appendAudit } from './audit-log.ts';
import type { Database } from './database.ts';
import { bytes, text } from './row.ts';

function placeOf(name: string, column: 'sealed_root_key' | 'sealed_issuing_key'): SealedPlace {
  return { table: 'authorities', row: name, column };
}

/** The authorities in SQLite, their keys sealed. */
export class SqliteAuthorityStore implements AuthorityRepository {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #seal: Seal;

  constructor(database: Database, clock: Clock, seal: Seal) {
    this.#database = database;
    this.#clock = clock;
    this.#seal = seal;
  }

  async list(): Promise<readonly AuthorityRecord[]> {
    return this.#database.all('select * from authorities order by name limit 64').map((row) => {
      const name = text(row, 'name');
      return {
        name,
        purpose: text(row, 'purpose') as Purpose,
        provider: text(row, 'provider') as AuthorityProvider['kind'],
        rootCertificate: bytes(row, 'root_certificate'),
        issuingCertificate: bytes(row, 'issuing_certificate'),
        issuingKey: this.#seal.open(placeOf(name, 'sealed_issuing_key'), bytes(row, 'sealed_issuing_key')),
      };
    });
  }

  async add(records: readonly NewAuthorityRecord[], audit: readonly AuditDraft[]): Promise<void> {
    this.#database.transaction(() => {
      for (const record of records) {
        this.#database.run(
          `insert into authorities (name, purpose, provider, root_certificate, issuing_certificate, sealed_root_key,
            sealed_issuing_key) values (?, ?, ?, ?, ?, ?, ?)`,
          record.name,
          record.purpose,
          record.provider,
          record.rootCertificate,
          record.issuingCertificate,
          this.#seal.seal(placeOf(record.name, 'sealed_root_key'), record.rootKey),
          this.#seal.seal(placeOf(record.name, 'sealed_issuing_key'), record.issuingKey),
        );
      }
      appendAudit(this.#database, this.#clock, audit);
    });
  }
}
