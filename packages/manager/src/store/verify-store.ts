import { TrustError } from '@virt-trust/base/error.ts';
import { type AuditChain, EMPTY_CHAIN, followAuditChain } from '../audit/verify-audit.ts';
import { auditEntries } from './audit-log.ts';
import type { Database } from './database.ts';

const BATCH = 1000;

/** Refuses a store whose file is damaged or whose audit chain does not hold; returns where the chain ends. */
export function verifyStore(database: Database, what: string): Pick<AuditChain, 'entries' | 'head'> {
  const [first] = database.all('pragma integrity_check(1)');
  if (first?.['integrity_check'] !== 'ok') throw damaged(what, String(first?.['integrity_check']));
  let chain = EMPTY_CHAIN;
  for (;;) {
    const entries = auditEntries(database, chain.entries, BATCH);
    if (entries.length === 0) break;
    chain = followAuditChain(chain, entries);
    if (chain.problem !== null) throw altered(what, chain.problem);
  }
  return { entries: chain.entries, head: chain.head };
}

function damaged(what: string, reason: string): TrustError {
  return new TrustError(
    'store.corrupt',
    'failed',
    `cannot use the store of ${what}: it is damaged: ${reason}`,
    {
      hint: 'take an older backup',
    },
  );
}

function altered(what: string, problem: string): TrustError {
  return new TrustError(
    'store.audit_altered',
    'failed',
    `cannot use the store of ${what}: its audit log does not hold: ${problem}`,
    {
      hint: 'somebody changed it: take an older backup, and find out who had access',
    },
  );
}
