import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MANAGER_OPERATIONS } from '@virt-trust/contract/manager/operations.ts';
import { createLog } from '../log.ts';
import { temporaryManager } from './fixtures.ts';

const ID = '00000000-0000-0000-0000-000000000000';
const RANK = { auditor: 1, operator: 2, administrator: 3, public: 0 } as const;

/** A path that fits an operation's parameters. */
function pathOf(path: string): string {
  return path
    .replace('{id}', ID)
    .replace('{gate}', 'serve')
    .replace('{serial}', 'aa')
    .replace(/\{\w+\}/g, 'x');
}

test('no two operations share an id, or a method and path', () => {
  assert.equal(new Set(MANAGER_OPERATIONS.map(({ id }) => id)).size, MANAGER_OPERATIONS.length);
  assert.equal(
    new Set(MANAGER_OPERATIONS.map(({ method, path }) => `${method} ${path}`)).size,
    MANAGER_OPERATIONS.length,
  );
});

test('RFC 6750 §3: every operation that is not public refuses whoever has no token, or a wrong one, and says how', async (t) => {
  const every = Object.fromEntries(MANAGER_OPERATIONS.map(({ id }) => [id, async () => assert.fail(id)]));
  // One manager for all: however many were refused before, the answer is the same.
  const { call } = await temporaryManager(t, [async () => ({ handlers: every })]);
  for (const operation of MANAGER_OPERATIONS) {
    if (operation.access === 'public') continue;
    await t.test(operation.id, async () => {
      for (const token of ['', 'vt_wrong', `vt_${'A'.repeat(43)}`]) {
        const answer = await call(operation.method, pathOf(operation.path), { token });
        assert.deepEqual([answer.status, answer.problem().code], [401, 'access.unauthenticated']);
        assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer /);
      }
    });
  }
});

test('each role may do what is its own and below, and is told what it lacks', async (t) => {
  for (const role of ['auditor', 'operator', 'administrator'] as const) {
    const { call } = await temporaryManager(t);
    const made = await call('POST', '/api/v1/tokens', { body: { name: `t-${role}`, role } });
    const token = String(made.json()['secret']);
    const asked: [string, string, keyof typeof RANK][] = [
      ['GET', '/api/v1/jobs', 'auditor'],
      ['DELETE', `/api/v1/jobs/${ID}`, 'operator'],
      ['GET', '/api/v1/tokens', 'administrator'],
    ];
    for (const [method, path, needed] of asked) {
      const answer = await call(method, path, { token });
      const allowed = RANK[role] >= RANK[needed];
      assert.equal(answer.status === 403, !allowed, `${role} ${method} ${path}`);
      if (!allowed) assert.match(answer.problem().detail, new RegExp(`role ${needed}`));
    }
  }
});

test('refusals are audited, but not without end, and a right token passes all the while', async (t) => {
  const logged: string[] = [];
  const keep = (_: object, message: string) => logged.push(message);
  const { call } = await temporaryManager(t, [], { log: { debug() {}, info() {}, warn: keep, error: keep } });
  const before = logged.length;
  for (let attempt = 0; attempt < 13; attempt++) {
    const { status } = await call('GET', '/api/v1/whoami', { token: `vt_${'A'.repeat(43)}` });
    assert.equal(status, 401);
  }
  assert.equal(logged.length - before, 10);
  assert.equal((await call('GET', '/api/v1/whoami')).json()['role'], 'administrator');
  const { items } = (await call('GET', '/api/v1/audit')).json() as {
    items: { outcome: string; detail: string }[];
  };
  const refused = items.filter(({ outcome }) => outcome === 'refused');
  assert.equal(refused.length, 10);
  assert.match(refused.at(-1)?.detail ?? '', /not listed$/);
});

test('a token is shown once, works until it is deleted, and is in no list', async (t) => {
  const { call } = await temporaryManager(t);
  const made = (await call('POST', '/api/v1/tokens', { body: { name: 'ci', role: 'operator' } })).json();
  const secret = String(made['secret']);
  const { id } = made['token'] as { id: string };
  assert.equal((await call('GET', '/api/v1/whoami', { token: secret })).json()['name'], 'ci');
  const list = await call('GET', '/api/v1/tokens');
  assert.equal(list.text.includes(secret), false);
  const gone = await call('DELETE', `/api/v1/tokens/${id}`);
  assert.deepEqual([gone.status, gone.text], [204, '']);
  assert.equal((await call('GET', '/api/v1/whoami', { token: secret })).status, 401);
  const again = await call('POST', '/api/v1/tokens', { body: { name: 'administrator', role: 'auditor' } });
  assert.deepEqual([again.status, again.problem().code], [409, 'token.exists']);
});

test('no token is ever in the log, whatever the request', async (t) => {
  let written = '';
  const log = createLog('debug', { write: (line) => (written += line) });
  const { call, token } = await temporaryManager(t, [], { log });
  const made = await call('POST', '/api/v1/tokens', { body: { name: 'ci', role: 'operator' } });
  await call('GET', '/api/v1/nonsense');
  await call('GET', '/api/v1/tokens', { token: String(made.json()['secret']) });
  await call('POST', '/api/v1/tokens', { body: `{"secret":"${token}"` });
  log.info({ token, nested: { deep: { privateKey: token } } }, 'a careless line');
  assert.ok(written.split('\n').length > 4);
  assert.equal(written.includes(token), false);
  assert.equal(written.includes(String(made.json()['secret'])), false);
});
