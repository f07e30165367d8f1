import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Role, Token } from '@virt-trust/contract/model/access.ts';
import type { TokenRecord, TokenStore } from '../access/token-store.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import { appendAudit } from './audit-log.ts';
import type { Database, Row } from './database.ts';
import { bytes, text, time, timeOrNull } from './row.ts';

function tokenOf(row: Row): Token {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    role: text(row, 'role') as Role,
    createdAt: time(row, 'created_at'),
    lastUsedAt: timeOrNull(row, 'last_used_at'),
  };
}

/** The tokens in SQLite. */
export class SqliteTokenStore implements TokenStore {
  readonly #database: Database;
  readonly #clock: Clock;
  /** What was looked up, by hash in hexadecimal, until a token changes: this process alone writes them. */
  readonly #found = new Map<string, TokenRecord>();

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async add({ token, secretHash }: TokenRecord, audit: AuditDraft): Promise<void> {
    this.#found.clear();
    this.#database.transaction(() => {
      this.#database.run(
        'insert into tokens (id, name, role, secret_hash, created_at) values (?, ?, ?, ?, ?)',
        token.id,
        token.name,
        token.role,
        secretHash,
        token.createdAt,
      );
      appendAudit(this.#database, this.#clock, [audit]);
    });
  }

  async findByHash(secretHash: Uint8Array): Promise<TokenRecord | undefined> {
    const key = Buffer.from(secretHash).toString('hex');
    const known = this.#found.get(key);
    if (known !== undefined) return known;
    const row = this.#database.get('select * from tokens where secret_hash = ?', secretHash);
    if (row === undefined) return undefined;
    const record = { token: tokenOf(row), secretHash: bytes(row, 'secret_hash') };
    this.#found.set(key, record);
    return record;
  }

  async list(): Promise<Token[]> {
    return this.#database.all('select * from tokens order by created_at, id').map(tokenOf);
  }

  async delete(id: string, audit: AuditDraft): Promise<void> {
    this.#found.clear();
    this.#database.transaction(() => {
      this.#database.run('delete from tokens where id = ?', id);
      appendAudit(this.#database, this.#clock, [audit]);
    });
  }

  async used(id: string, at: Instant): Promise<void> {
    this.#found.clear();
    this.#database.run('update tokens set last_used_at = ? where id = ?', at, id);
  }
}
