import type { AuditLog } from '../../audit/audit-log.ts';
import { EMPTY_CHAIN, followAuditChain } from '../../audit/verify-audit.ts';
import { pageOf, sequenceOf } from '../cursor.ts';
import type { Handlers } from '../handlers.ts';

const BATCH = 1000;

/** The audit log and its verification. */
export function auditHandlers(audit: AuditLog): Pick<Handlers, 'listAudit' | 'verifyAudit'> {
  return {
    listAudit: ({ query }) =>
      pageOf(
        query,
        (after, limit) => audit.list(sequenceOf(after) ?? 0, limit),
        ({ sequence }) => String(sequence),
        (entry) => entry,
      ),
    verifyAudit: async ({ signal }) => {
      let chain = EMPTY_CHAIN;
      while (chain.problem === null) {
        signal.throwIfAborted();
        const entries = await audit.list(chain.entries, BATCH);
        if (entries.length === 0) break;
        chain = followAuditChain(chain, entries);
        // Lets other requests through between batches.
        await new Promise(setImmediate);
      }
      return { ...chain, intact: chain.problem === null };
    },
  };
}
