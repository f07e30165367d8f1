import type { AuditEntry } from '@virt-trust/contract/model/audit-entry.ts';
import { AUDIT_ORIGIN, auditHash } from './audit-entry.ts';

/** How far a chain was followed, and what is wrong with the first entry that does not fit. */
export interface AuditChain {
  readonly entries: number;
  /** The hash of the last entry that fits. */
  readonly head: string;
  readonly problem: string | null;
}

export const EMPTY_CHAIN: AuditChain = { entries: 0, head: AUDIT_ORIGIN, problem: null };

/** Follows the chain over the entries that come next; stops at the first that is missing or was altered. */
export function followAuditChain(chain: AuditChain, entries: readonly AuditEntry[]): AuditChain {
  let { entries: count, head } = chain;
  if (chain.problem !== null) return chain;
  for (const { hash, ...entry } of entries) {
    if (entry.sequence !== count + 1) {
      const problem = `entry ${count + 1} is missing: entry ${entry.sequence} follows entry ${count}`;
      return { entries: count, head, problem };
    }
    if (auditHash(head, entry) !== hash) {
      const problem = `entry ${entry.sequence} (${entry.action} of ${entry.subject}) or its place in the chain was altered`;
      return { entries: count, head, problem };
    }
    count = entry.sequence;
    head = hash;
  }
  return { entries: count, head, problem: null };
}
