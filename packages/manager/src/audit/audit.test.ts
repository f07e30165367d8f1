import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AuditEntry } from '@virt-trust/contract/model/audit-entry.ts';
import { AuditEntry as AuditEntrySchema } from '@virt-trust/contract/model/audit-entry.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import fc from 'fast-check';
import { appendAudit, SqliteAuditLog } from '../store/audit-log.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { AUDIT_ORIGIN, type AuditDraft, auditHash } from './audit-entry.ts';
import { EMPTY_CHAIN, followAuditChain } from './verify-audit.ts';

const draft: AuditDraft = {
  actor: 'token:root',
  action: 'host.add',
  subject: 'h1',
  outcome: 'done',
  detail: '',
};
const drafts = fc.array(
  fc.record({
    actor: fc.string({ unit: 'binary' }),
    action: fc.string({ unit: 'binary' }),
    subject: fc.string({ unit: 'binary' }),
    outcome: fc.constantFrom('intent', 'done', 'refused', 'failed'),
    detail: fc.string({ unit: 'binary', maxLength: 6000 }),
  }),
  { minLength: 1, maxLength: 8 },
);

function chain(...details: string[]): AuditEntry[] {
  let hash = AUDIT_ORIGIN;
  return details.map((detail, index) => {
    const entry = { sequence: index + 1, at: 1000 + index, ...draft, detail };
    hash = auditHash(hash, entry);
    return { ...entry, hash };
  });
}

test('whatever is logged is kept in the contract’s form, and its chain verifies after it was read back', async (t) => {
  const { database } = temporaryStore(t);
  const log = new SqliteAuditLog(database, settableClock());
  await fc.assert(
    fc.asyncProperty(drafts, async (some) => {
      const before = await log.list(0, 100_000);
      await log.append(some as AuditDraft[]);
      const after = await log.list(0, 100_000);
      assert.equal(after.length, before.length + some.length);
      for (const entry of after.slice(before.length)) validatorOf(AuditEntrySchema)(entry, 'entry');
      assert.equal(followAuditChain(EMPTY_CHAIN, after).problem, null);
    }),
    { numRuns: 30 },
  );
});

test('an entry that was altered in any field is named', () => {
  const entries = chain('a', 'b', 'c');
  const changes: Partial<AuditEntry>[] = [
    { at: 5 },
    { actor: 'x' },
    { action: 'x' },
    { subject: 'x' },
    { outcome: 'failed' },
    { detail: 'x' },
    { hash: '0'.repeat(64) },
  ];
  for (const change of changes) {
    const altered = entries.map((entry) => (entry.sequence === 2 ? { ...entry, ...change } : entry));
    const result = followAuditChain(EMPTY_CHAIN, altered);
    assert.match(result.problem ?? '', /^entry 2 /);
    assert.equal(result.entries, 1);
    assert.equal(result.head, entries[0]?.hash);
  }
});

test('an entry that is missing is named, and so is the place where two were swapped', () => {
  const [first, second, third] = chain('a', 'b', 'c');
  assert.ok(first && second && third);
  assert.match(followAuditChain(EMPTY_CHAIN, [first, third]).problem ?? '', /^entry 2 is missing/);
  assert.match(followAuditChain(EMPTY_CHAIN, [second, third]).problem ?? '', /^entry 1 is missing/);
  const swapped = [first, { ...third, sequence: 2 }, { ...second, sequence: 3 }];
  assert.match(followAuditChain(EMPTY_CHAIN, swapped).problem ?? '', /^entry 2 /);
});

test('a chain that is followed in parts ends where the whole does', () => {
  const entries = chain('a', 'b', 'c', 'd');
  const whole = followAuditChain(EMPTY_CHAIN, entries);
  const parts = followAuditChain(followAuditChain(EMPTY_CHAIN, entries.slice(0, 1)), entries.slice(1));
  assert.deepEqual(parts, whole);
  assert.equal(whole.entries, 4);
});

test('text that moves from one field to the next gives another hash', () => {
  const entry = { sequence: 1, at: 1, ...draft };
  assert.notEqual(
    auditHash(AUDIT_ORIGIN, { ...entry, actor: 'a","b', action: 'c' }),
    auditHash(AUDIT_ORIGIN, { ...entry, actor: 'a', action: 'b","c' }),
  );
});

test('the database refuses to change or delete an entry', async (t) => {
  const { database } = temporaryStore(t);
  const log = new SqliteAuditLog(database, settableClock());
  await log.append([draft, draft]);
  assert.throws(() => database.run("update audit set detail = 'x' where sequence = 1"), /append-only/);
  assert.throws(() => database.run('delete from audit'), /append-only/);
  assert.throws(
    () =>
      database.run(
        "insert or replace into audit select 1, at, actor, action, subject, outcome, 'x', hash from audit where sequence = 2",
      ),
    /append-only/,
  );
  assert.equal(followAuditChain(EMPTY_CHAIN, await log.list(0, 10)).entries, 2);
});

test('an entry goes with the change that it describes', async (t) => {
  const { database } = temporaryStore(t);
  const clock = settableClock();
  const log = new SqliteAuditLog(database, clock);
  assert.throws(() =>
    database.transaction(() => {
      appendAudit(database, clock, [draft]);
      throw new Error('the change fails');
    }),
  );
  await log.append([{ ...draft, detail: 'kept' }]);
  const entries = await log.list(0, 10);
  assert.deepEqual(
    entries.map(({ sequence, detail }) => [sequence, detail]),
    [[1, 'kept']],
  );
});
