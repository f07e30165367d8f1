import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import fc from 'fast-check';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteTokenStore } from '../store/token-store.ts';
import { RefusalLimit } from './refusal-limit.ts';
import { roleSuffices } from './token.ts';
import { Tokens } from './tokens.ts';

function temporaryTokens(t: TestContext) {
  const clock = settableClock();
  const { database, path } = temporaryStore(t, clock);
  const tokens = new Tokens(new SqliteTokenStore(database, clock), clock, systemRandomness);
  return { tokens, clock, path, database };
}

test('the first administrator is made once', async (t) => {
  const { tokens } = temporaryTokens(t);
  const secret = await tokens.createFirst();
  assert.match(secret ?? '', /^vt_[A-Za-z0-9_-]{43}$/);
  assert.equal(await tokens.createFirst(), undefined);
  assert.equal((await tokens.authenticate(secret ?? ''))?.role, 'administrator');
});

test('no secret is in the database or its log', async (t) => {
  const { tokens, path } = temporaryTokens(t);
  const { secret } = await tokens.create('ann', 'operator', 'a');
  for (const name of ['manager.db', 'manager.db-wal']) {
    const content = readFileSync(join(path, name));
    assert.equal(content.includes(secret), false);
    assert.equal(content.includes(Buffer.from(secret.slice(3), 'base64url')), false);
  }
});

test('nothing but the secret itself is let in', async (t) => {
  const { tokens } = temporaryTokens(t);
  const { secret, token } = await tokens.create('ann', 'operator', 'a');
  assert.equal((await tokens.authenticate(secret))?.id, token.id);
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string({ unit: 'binary' }), fc.nat(45)), async (wrong) => {
      const other =
        typeof wrong === 'string'
          ? wrong
          : `${secret.slice(0, wrong)}${secret[wrong] === 'A' ? 'B' : 'A'}${secret.slice(wrong + 1)}`;
      assert.equal(await tokens.authenticate(other), undefined);
    }),
  );
  await tokens.delete(token.id, 'a').catch(() => {});
});

test('a deleted token is let in no more, and the last administrator cannot be deleted', async (t) => {
  const { tokens } = temporaryTokens(t);
  const first = await tokens.create('one', 'administrator', 'a');
  const second = await tokens.create('two', 'administrator', 'a');
  await tokens.delete(first.token.id, 'a');
  assert.equal(await tokens.authenticate(first.secret), undefined);
  await assert.rejects(tokens.delete(second.token.id, 'a'), (error) =>
    isTrustError(error, 'token.last_administrator'),
  );
  assert.equal((await tokens.authenticate(second.secret))?.name, 'two');
  await assert.rejects(tokens.delete(first.token.id, 'a'), (error) => isTrustError(error, 'token.unknown'));
});

test('a name is given once', async (t) => {
  const { tokens } = temporaryTokens(t);
  await tokens.create('ann', 'operator', 'a');
  await assert.rejects(tokens.create('ann', 'auditor', 'a'), (error) => isTrustError(error, 'token.exists'));
});

test('the last use is kept to the minute', async (t) => {
  const { tokens, clock } = temporaryTokens(t);
  const { secret } = await tokens.create('ann', 'operator', 'a');
  const used = async () => (await tokens.list())[0]?.lastUsedAt;
  const first = clock.now();
  await tokens.authenticate(secret);
  clock.advance(MINUTE - 1);
  await tokens.authenticate(secret);
  assert.equal(await used(), first);
  clock.advance(1);
  await tokens.authenticate(secret);
  assert.equal(await used(), first + MINUTE);
});

test('a store that cannot keep the last use lets the token in all the same', async (t) => {
  const { tokens, database } = temporaryTokens(t);
  const { secret } = await tokens.create('ann', 'operator', 'a');
  database.script("create trigger full before update on tokens begin select raise(abort, 'full'); end");
  assert.equal((await tokens.authenticate(secret))?.name, 'ann');
  assert.equal((await tokens.list())[0]?.lastUsedAt, null);
});

test('a role may do what those below it may, and no more', () => {
  const roles = ['auditor', 'operator', 'administrator'] as const;
  for (const [have, role] of roles.entries()) {
    for (const [need, needed] of roles.entries()) assert.equal(roleSuffices(role, needed), have >= need);
  }
});

test('so many refusals a minute are listed for a source, the last of them says so, and a minute later it begins anew', () => {
  const clock = settableClock();
  const limit = new RefusalLimit(clock);
  const verdicts = Array.from({ length: 12 }, () => limit.count('192.0.2.1'));
  assert.deepEqual(verdicts, [...new Array(9).fill('first'), 'last', 'more', 'more']);
  assert.equal(limit.count('192.0.2.2'), 'first');
  clock.advance(MINUTE);
  assert.equal(limit.count('192.0.2.1'), 'first');
});

test('addresses of one IPv6 network count together, and all sources together are bounded', () => {
  const limit = new RefusalLimit(settableClock());
  for (let host = 1; host <= 10; host++) limit.count(`2001:db8::${host.toString(16)}`);
  assert.equal(limit.count('2001:db8:0:0:ffff::1'), 'more');
  assert.equal(limit.count('2001:db8:0:1::1'), 'first');
  let listed = 0;
  for (let host = 0; host < 10_000; host++) {
    if (limit.count(`10.0.${host >> 8}.${host & 255}`) !== 'more') listed += 1;
  }
  assert.ok(listed <= 100);
});
