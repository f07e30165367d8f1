import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import type { Condition } from '../../alarms/condition.ts';
import { testCondition, webhookReceiver } from '../../alarms/fixtures.ts';
import type { Core } from '../../core.ts';
import { domainsOf } from '../../domains.ts';
import { temporaryManager } from '../fixtures.ts';

/** A manager with a source of alarms that the test tells what is wrong. */
async function managerWithAlarms(t: TestContext, first: readonly Condition[]) {
  let conditions = first;
  let core: Core | undefined;
  const manager = await temporaryManager(t, [
    ...domainsOf({ dns: [], subnets: [] }),
    async (given) => {
      core = given;
      given.alarms.register({ name: 'test', conditions: async () => conditions });
      return { handlers: {} };
    },
  ]);
  /** Says what is wrong, and waits for an event of that kind. */
  const say = async (now: readonly Condition[], event: string) => {
    conditions = now;
    const stop = new AbortController();
    for await (const { kind } of core?.events.follow(undefined, AbortSignal.any([stop.signal, t.signal])) ??
      []) {
      if (kind === event) return stop.abort();
    }
  };
  const open = async () =>
    (await manager.call('GET', '/api/v1/alarms')).json()['items'] as unknown as Alarm[];
  return { ...manager, core: () => core, say, open };
}

test('alarms are listed newest first, page by page and by host, acknowledged with a role that may, and the audit says who', async (t) => {
  const many = ['host-1', 'host-2', 'host-1'].map((host, index) =>
    testCondition({ host, subject: `thing ${index} of ${host}` }),
  );
  const { call, core, open } = await managerWithAlarms(t, many);
  for await (const { kind } of core()?.events.follow(0, t.signal) ?? []) if (kind === 'alarm.raised') break;
  const all = await open();
  assert.equal(all.length, 3);
  const page = (await call('GET', '/api/v1/alarms?host=host-1&limit=1')).json();
  assert.equal((page['items'] as unknown as Alarm[])[0]?.subject, 'thing 2 of host-1');
  const rest = (await call('GET', `/api/v1/alarms?host=host-1&limit=1&cursor=${page['next']}`)).json();
  assert.deepEqual(
    [(rest['items'] as unknown as Alarm[])[0]?.subject, rest['next']],
    ['thing 0 of host-1', null],
  );
  const id = all[0]?.id;
  const auditor = (
    await call('POST', '/api/v1/tokens', { body: { name: 'reader', role: 'auditor' } })
  ).json()['secret'];
  const path = `/api/v1/alarms/${id}/acknowledgement`;
  assert.equal((await call('POST', path, { token: String(auditor) })).status, 403);
  assert.equal((await call('GET', `/api/v1/alarms/${id}`, { token: String(auditor) })).status, 200);
  assert.equal((await call('POST', path)).json()['state'], 'acknowledged');
  const audit = (await call('GET', '/api/v1/audit?limit=100')).json();
  assert.ok(
    (audit['items'] as unknown as { action: string; actor: string }[]).some(
      (entry) => entry.action === 'alarm.acknowledge' && entry.actor === 'token:administrator',
    ),
  );
  assert.equal((await call('GET', '/api/v1/alarms/00000000-0000-4000-8000-000000000000')).status, 404);
  assert.match(
    (await call('GET', '/metrics')).text,
    /virt_trust_alarms\{kind="renewal-failed",severity="warning",state="raised"\} 2/,
  );
});

test('the secret of a webhook is shown once, is in no answer, audit entry or file, and only an administrator sets it', async (t) => {
  const { call } = await managerWithAlarms(t, []);
  const receiver = await webhookReceiver(t, (_, response) => response.end());
  const operator = (await call('POST', '/api/v1/tokens', { body: { name: 'op', role: 'operator' } })).json()[
    'secret'
  ];
  const body = { url: receiver.url };
  assert.equal((await call('PUT', '/api/v1/webhook', { body, token: String(operator) })).status, 403);
  const secret = String((await call('PUT', '/api/v1/webhook', { body })).json()['secret']);
  assert.match(secret, /^[A-Za-z0-9_-]{43}$/);
  const tested = (await call('POST', '/api/v1/webhook/test')).json();
  assert.deepEqual(tested, { delivered: true, answer: 'HTTP 200 OK' });
  for (const path of ['/api/v1/webhook', '/api/v1/audit', '/metrics'])
    assert.equal((await call('GET', path)).text.includes(secret), false, path);
  const given = await call('PUT', '/api/v1/webhook', { body: { ...body, secret: 'x'.repeat(20) } });
  assert.equal(given.json()['secret'], null);
  for (const url of ['http://169.254.169.254/', 'http://user:pw@127.0.0.1/', 'gopher://127.0.0.1/'])
    assert.ok((await call('PUT', '/api/v1/webhook', { body: { url } })).status >= 400, url);
  assert.equal((await call('DELETE', '/api/v1/webhook')).status, 204);
  assert.equal((await call('DELETE', '/api/v1/webhook')).status, 404);
  assert.equal((await call('GET', '/api/v1/webhook')).json()['webhook'], null);
});
