import { sha256Hex } from '@virt-trust/base/digest.ts';
import type { AuditEntry } from '@virt-trust/contract/model/audit-entry.ts';
import { lineOf } from '@virt-trust/contract/text.ts';

/** What happened, before the log gives it its place. */
export interface AuditDraft {
  /** Who: `token:NAME`, or `manager` for what nobody asked for. */
  readonly actor: string;
  /** `certificate.issue`, `host.add`. */
  readonly action: string;
  /** What it was done to. */
  readonly subject: string;
  readonly outcome: AuditEntry['outcome'];
  /** Words for people; never a secret. */
  readonly detail: string;
}

/** The hash before the first entry. */
export const AUDIT_ORIGIN = '0'.repeat(64);

/**
 * The hash of an entry, over the hash before it and everything that the entry says. The encoding is the JSON text of a
 * fixed array, which is one text only for one value.
 */
export function auditHash(previous: string, entry: Omit<AuditEntry, 'hash'>): string {
  return sha256Hex(
    JSON.stringify([
      'virt-trust audit 1',
      previous,
      entry.sequence,
      entry.at,
      entry.actor,
      entry.action,
      entry.subject,
      entry.outcome,
      entry.detail,
    ]),
  );
}

/** The draft as it can be kept: bounded, well-formed, no control characters. */
export function boundedDraft(draft: AuditDraft): AuditDraft {
  return {
    actor: lineOf(draft.actor, 256),
    action: lineOf(draft.action, 256),
    subject: lineOf(draft.subject, 1024),
    outcome: draft.outcome,
    detail: lineOf(draft.detail, 4096),
  };
}
