import type { AuditEntry } from '@virt-trust/contract/model/audit-entry.ts';
import type { AuditDraft } from './audit-entry.ts';

/** The append-only log. What changes the store is appended by the store in the same transaction; this is for the rest. */
export interface AuditLog {
  /** Appends, durable on return. */
  append(drafts: readonly AuditDraft[]): Promise<void>;
  /** Entries with a sequence above `after`, oldest first. */
  list(after: number, limit: number): Promise<AuditEntry[]>;
}
