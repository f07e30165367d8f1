import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MANAGER_OPERATIONS } from '@virt-trust/contract/manager/operations.ts';
import fc from 'fast-check';
import { sendRaw, statusWithHost, temporaryManager } from './fixtures.ts';

const retention = '/api/v1/settings/jobs.retention_days';

test('RFC 9457 §3: malformed JSON, wrong types and wrong forms come back as problem documents', async (t) => {
  const { call } = await temporaryManager(t);
  const json = { 'content-type': 'application/json' };
  const cases: [string, string, string | undefined, Record<string, string>, number, string][] = [
    ['PUT', retention, '{"value":', json, 400, 'request.not_json'],
    ['PUT', retention, '', json, 400, 'request.not_json'],
    ['PUT', retention, '{"value":1,"__proto__":{}}', json, 400, 'request.not_json'],
    ['PUT', retention, '[]', json, 400, 'contract.invalid'],
    ['PUT', retention, '{"value":1,"more":2}', json, 400, 'contract.invalid'],
    ['PUT', retention, undefined, {}, 400, 'contract.invalid'],
    ['PUT', retention, '{"value":1}', { 'content-type': 'text/plain' }, 415, 'request.media_type'],
    ['PUT', retention, '<a/>', { 'content-type': 'application/xml' }, 415, 'request.media_type'],
    ['POST', '/api/v1/tokens', '{"name":"a;b","role":"auditor"}', json, 400, 'contract.invalid'],
    ['POST', '/api/v1/tokens', '{"name":"a\\u0000","role":"auditor"}', json, 400, 'contract.invalid'],
    ['POST', '/api/v1/tokens', '{"name":"a","role":"root"}', json, 400, 'contract.invalid'],
    ['GET', '/api/v1/jobs?limit=0', undefined, {}, 400, 'contract.invalid'],
    ['GET', '/api/v1/jobs?limit=1e3', undefined, {}, 400, 'contract.invalid'],
    ['GET', '/api/v1/jobs?limit=1&limit=2', undefined, {}, 400, 'contract.invalid'],
    ['GET', '/api/v1/jobs?cursor=%00', undefined, {}, 400, 'contract.invalid'],
    ['GET', '/api/v1/jobs?cursor=AAAA', undefined, {}, 400, 'request.cursor'],
    ['GET', '/api/v1/jobs/..%2f..%2fetc', undefined, {}, 400, 'contract.invalid'],
    ['GET', '/api/v1/jobs/%0d%0aX-A:%20b', undefined, {}, 400, 'contract.invalid'],
    ['GET', '/api/v1/jobs/%zz', undefined, {}, 400, 'request.refused'],
    ['GET', '/api/v1/jobs/00000000-0000-0000-0000-000000000000', undefined, {}, 404, 'job.unknown'],
    ['GET', '/api/v1/nonsense', undefined, {}, 404, 'request.unknown_path'],
    ['PATCH', retention, '{}', json, 404, 'request.unknown_path'],
    ['GET', '/etc/passwd', undefined, {}, 404, 'request.unknown_path'],
  ];
  for (const [method, path, body, headers, status, code] of cases) {
    const answer = await call(method, path, { ...(body === undefined ? {} : { body }), headers });
    const problem = answer.problem();
    assert.deepEqual(
      [answer.status, problem.status, problem.code],
      [status, status, code],
      `${method} ${path} ${body}`,
    );
    assert.match(problem.detail, /^cannot /);
    assert.doesNotMatch(answer.text, /\.ts:\d|node_modules|\\n +at /);
  }
});

test('a value that no setting takes is refused with what would be taken', async (t) => {
  const { call } = await temporaryManager(t);
  for (const [value, code, detail] of [
    ['4.5', 'setting.invalid', /cannot set jobs.retention_days: not a whole number from 1 to 3650/],
    ['1e400', 'contract.invalid', /at \/value: .* is not true or false, a number, a text/],
    ['[1]', 'contract.invalid', /at \/value: \[1\] is not true or false, .* a list of at most 64 texts/],
    ['{"a":1}', 'contract.invalid', /at \/value: .* or null, which takes it back/],
  ] as const) {
    const answer = await call('PUT', retention, { body: `{"value":${value}}` });
    assert.deepEqual([answer.status, answer.problem().code], [400, code], value);
    assert.match(answer.problem().detail, detail);
  }
});

test('a body of null is no empty body, though an operation whose fields are all optional takes none', async (t) => {
  let asked = 0;
  const evacuateHost = async () => {
    asked += 1;
    throw new Error('not to be asked');
  };
  const { call } = await temporaryManager(t, [async () => ({ handlers: { evacuateHost } })]);
  const answer = await call('POST', '/api/v1/hosts/a/evacuation', { body: 'null' });
  assert.deepEqual([answer.status, answer.problem().code, asked], [400, 'contract.invalid', 0]);
  assert.equal((await call('POST', '/api/v1/hosts/a/evacuation')).status, 500);
  assert.equal(asked, 1);
});

test('whatever JSON or bytes a body holds, the answer is a problem document and the manager goes on', async (t) => {
  const { call } = await temporaryManager(t);
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.json(), fc.string({ unit: 'binary' })), async (body) => {
      const answer = await call('POST', '/api/v1/tokens', { body });
      assert.ok(answer.status >= 400 && answer.status < 500, body);
      answer.problem();
    }),
    { numRuns: 60 },
  );
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary', minLength: 1 }), async (part) => {
      const path = encodeURIComponent(part.toWellFormed());
      const answer = await call('GET', `/api/v1/jobs/${path}?limit=${path}&cursor=${path}`);
      assert.ok(answer.status >= 400 && answer.status < 500, path);
      answer.problem();
    }),
    { numRuns: 60 },
  );
  assert.equal((await call('GET', '/healthz')).status, 200);
});

test('a body beyond the limit is refused before it is read, that of an issuance sooner', async (t) => {
  const domain = async () => ({
    handlers: { issueCertificate: async () => ({ serialNumber: 'aa', pem: '-----BEGIN ' }) },
  });
  const { call } = await temporaryManager(t, [domain]);
  const big = (size: number) => JSON.stringify({ name: 'a'.repeat(size) });
  const answer = await call('POST', '/api/v1/tokens', { body: big(1024 * 1024) });
  assert.deepEqual([answer.status, answer.problem().code], [413, 'request.too_large']);
  assert.equal((await call('POST', '/api/v1/tokens', { body: big(1024 * 1024 - 100) })).status, 400);
  assert.equal((await call('POST', '/api/v1/certificates', { body: big(128 * 1024) })).status, 413);
});

test('RFC 9110 §15.5: what is no HTTP, or has headers beyond the limit, is answered as a problem and cut off', async (t) => {
  const { url, call } = await temporaryManager(t);
  const long = `GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-a: ${'a'.repeat(20_000)}\r\n\r\n`;
  assert.match(await sendRaw(url, long), /^HTTP\/1\.1 431 [\s\S]*application\/problem\+json/);
  assert.match(await sendRaw(url, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400 [\s\S]*"code":"request.refused"/);
  assert.match(
    await sendRaw(url, new Uint8Array([22, 3, 1, 0, 5, 1, 0, 0, 1, 3, 10, 10])),
    /^HTTP\/1\.1 400 /,
  );
  const smuggled =
    'POST /api/v1/tokens HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n';
  assert.match(await sendRaw(url, smuggled), /^HTTP\/1\.1 400 /);
  assert.equal((await call('GET', '/healthz')).status, 200);
});

test('a Host that is not this machine’s loopback is refused, so that a web page cannot rebind its name', async (t) => {
  const { url } = await temporaryManager(t);
  const { port } = new URL(url);
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, 'LOCALHOST', `[::1]:${port}`, '127.0.0.1']) {
    assert.equal(await statusWithHost(url, host), 200, host);
  }
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1.evil.example',
    'localhost.evil',
    '192.0.2.1',
  ]) {
    assert.equal(await statusWithHost(url, host), 403, host);
  }
});

test('no other origin is let in, and answers are not for caches or guessing', async (t) => {
  const { call } = await temporaryManager(t);
  const answer = await call('GET', '/api/v1/whoami', { headers: { origin: 'https://evil.example' } });
  assert.equal(answer.headers.get('access-control-allow-origin'), null);
  assert.equal(answer.headers.get('cache-control'), 'no-store');
  assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
  assert.match(answer.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
  const preflight = await call('OPTIONS', '/api/v1/whoami', { headers: { origin: 'https://evil.example' } });
  assert.equal(preflight.status, 404);
});

test('what goes wrong inside is told to the log with the request’s id, and to the client not at all', async (t) => {
  const lines: { fields: Record<string, unknown>; message: string }[] = [];
  const error = (fields: object, message: string) =>
    lines.push({ fields: fields as Record<string, unknown>, message });
  const domain = async () => ({
    handlers: {
      getHost: async () => {
        throw new Error('the secret is hunter2');
      },
      getManagerIdentity: async () => ({ current: 'not a pin', next: null, previous: null }),
    },
  });
  const log = { debug() {}, info() {}, warn() {}, error };
  const { call } = await temporaryManager(t, [domain], { log });
  const thrown = await call('GET', '/api/v1/hosts/h1');
  assert.deepEqual([thrown.status, thrown.problem().code], [500, 'internal.unexpected']);
  assert.doesNotMatch(thrown.text, /hunter2/);
  assert.equal(lines[0]?.fields['request'], thrown.headers.get('x-request-id'));
  assert.match(lines[0]?.message ?? '', /hunter2/);
  const invalid = await call('GET', '/api/v1/manager/identity');
  assert.deepEqual([invalid.status, invalid.problem().code], [500, 'api.answer_invalid']);
});

test('OpenAPI 3.1 §4.8: the document has every operation with the role it needs, and is there for everybody', async (t) => {
  const { call } = await temporaryManager(t);
  const document = (await call('GET', '/api/v1/openapi.json', { token: '' })).json() as {
    openapi: string;
    paths: Record<string, Record<string, { operationId: string; security: unknown[] }>>;
  };
  assert.match(document.openapi, /^3\.1\./);
  const described = Object.values(document.paths).flatMap((item) => Object.values(item));
  assert.deepEqual(
    described.map(({ operationId }) => operationId).sort(),
    MANAGER_OPERATIONS.map(({ id }) => id).sort(),
  );
  for (const operation of MANAGER_OPERATIONS) {
    const one = described.find(({ operationId }) => operationId === operation.id);
    assert.equal(one?.security.length, operation.access === 'public' ? 0 : 1, operation.id);
  }
});
