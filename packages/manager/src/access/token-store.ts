import type { Instant } from '@virt-trust/base/instant.ts';
import type { Token } from '@virt-trust/contract/model/access.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** A token with the hash of its secret. */
export interface TokenRecord {
  readonly token: Token;
  readonly secretHash: Uint8Array;
}

/** Where tokens are kept. */
export interface TokenStore {
  /** Throws `store.duplicate` where the name is taken. */
  add(record: TokenRecord, audit: AuditDraft): Promise<void>;
  findByHash(secretHash: Uint8Array): Promise<TokenRecord | undefined>;
  list(): Promise<Token[]>;
  delete(id: string, audit: AuditDraft): Promise<void>;
  used(id: string, at: Instant): Promise<void>;
}
