import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { MANAGER_OPERATIONS } from '@virt-trust/contract/manager/operations.ts';
import type { ComposeDomain } from './core.ts';
import { domainsOf } from './domains.ts';
import { temporaryManager } from './http/fixtures.ts';
import { jobOf } from './jobs/fixtures.ts';
import { startManager } from './manager.ts';
import { Seal } from './seal/seal.ts';
import { parseSealKeys } from './seal/seal-key.ts';
import { temporaryDirectory } from './store/fixtures.ts';
import { SEALED_COLUMNS } from './store/sealed-columns.ts';

test('a second start goes on with what is there: the token works, settings hold, jobs go on, no new token is made', async (t) => {
  const running = Promise.withResolvers<void>();
  const stuck = jobOf(async (_, { signal }) => {
    running.resolve();
    await once(signal, 'abort');
    throw new Error('cut');
  });
  const domainOf =
    (definition: typeof stuck): ComposeDomain =>
    async (core) => {
      core.jobs.register(definition);
      const order = { subject: 'h1', payload: { n: 1 }, actor: 'a' };
      return { handlers: { addHost: () => core.jobs.enqueue(definition, order) } };
    };
  const first = await temporaryManager(t, [domainOf(stuck)]);
  const body = { name: 'h1', ssh: { destination: 'h1' } };
  const { id } = (await first.call('POST', '/api/v1/hosts', { body })).json();
  await first.call('PUT', '/api/v1/settings/organization', { body: { value: 'Example' } });
  await running.promise;
  await first.close();

  const { stateDirectory } = first;
  const second = await temporaryManager(t, [domainOf(jobOf(async () => 'at last'))], { stateDirectory });
  assert.equal(second.initialToken, undefined);
  const options = { token: first.token };
  const settings = (await second.call('GET', '/api/v1/settings', options)).text;
  assert.match(settings, /"name":"organization","value":"Example"/);
  await second.call('GET', `/api/v1/jobs/${id}/events`, options);
  const job = (await second.call('GET', `/api/v1/jobs/${id}`, options)).json();
  assert.deepEqual([job['state'], job['result']], ['done', 'at last']);
  const chain = (await second.call('GET', '/api/v1/audit/verification', options)).json();
  assert.equal(chain['intact'], true);
});

test('a start that cannot get its port makes no token, so that the next start shows it', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  t.after(() => taken.close());
  await once(taken, 'listening');
  const { port } = taken.address() as { port: number };
  const stateDirectory = temporaryDirectory(t);
  const listen = { address: '127.0.0.1', port };
  await assert.rejects(
    temporaryManager(t, [], { stateDirectory, listen }),
    (error) => isTrustError(error, 'listen.failed') && error.hint !== undefined,
  );
  const manager = await temporaryManager(t, [], { stateDirectory });
  assert.match(manager.initialToken ?? '', /^vt_/);
});

test('two managers cannot serve the same state, and the first is not disturbed', async (t) => {
  const first = await temporaryManager(t);
  const { stateDirectory } = first;
  await assert.rejects(temporaryManager(t, [], { stateDirectory }), (error) =>
    isTrustError(error, 'store.locked'),
  );
  assert.equal((await first.call('GET', '/readyz')).text, 'ready\n');
});

test('an address that others can reach is refused without TLS, and so is a name', async (t) => {
  for (const address of ['0.0.0.0', '192.0.2.1', '::', 'localhost', 'manager.example']) {
    await assert.rejects(
      startManager({ stateDirectory: temporaryDirectory(t), version: '0', listen: { address, port: 0 } }, []),
      (error) => isTrustError(error) && error.code.startsWith('listen.') && error.hint !== undefined,
      address,
    );
  }
});

test('RFC 8446: with a certificate and key the API is served over TLS 1.3 alone, and a pair that does not fit is refused', async (t) => {
  const [one, other] = [selfSigned(t), selfSigned(t)];
  const { url } = await temporaryManager(t, [], { listen: { address: '127.0.0.1', port: 0, tls: one } });
  assert.match(url, /^https:/);
  const ask = (more: object) => {
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    get(
      `${url}/healthz`,
      { ca: one.certificate, checkServerIdentity: () => undefined, ...more },
      (response) => {
        response.resume();
        resolve(response.statusCode);
      },
    ).on('error', reject);
    return promise;
  };
  assert.equal(await ask({}), 200);
  await assert.rejects(ask({ maxVersion: 'TLSv1.2' }), /protocol version/i);
  const pairs = [
    { certificate: one.certificate, key: other.key },
    { certificate: 'x', key: one.key },
  ];
  for (const tls of pairs) {
    await assert.rejects(
      temporaryManager(t, [], { listen: { address: '0.0.0.0', port: 0, tls } }),
      (error) => isTrustError(error, 'listen.tls') && error.hint !== undefined,
    );
  }
});

function selfSigned(t: TestContext): { certificate: string; key: string } {
  const directory = temporaryDirectory(t);
  const [certificate, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const rest = ['-subj', '/CN=manager', '-days', '1', '-keyout', key, '-out', certificate];
  execFileSync('openssl', ['req', '-x509', ...curve, ...rest], { stdio: 'ignore' });
  return { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
}

test('everything in the state directory is for its owner alone', async (t) => {
  const { stateDirectory } = await temporaryManager(t);
  assert.equal(statSync(stateDirectory).mode & 0o077, 0);
  for (const name of readdirSync(stateDirectory)) {
    assert.equal(statSync(join(stateDirectory, name)).mode & 0o077, 0, name);
  }
});

test('settings of a host go by its cluster, and one that is not known is named', async (t) => {
  const domain: ComposeDomain = async () => ({ handlers: {}, clusterOf: async () => 'c1' });
  const known = await temporaryManager(t, [domain]);
  await known.call('PUT', '/api/v1/settings/key.algorithm?cluster=c1', { body: { value: 'rsa-3072' } });
  const answer = await known.call('GET', '/api/v1/settings?host=h1');
  assert.match(
    answer.text,
    /"name":"key.algorithm","value":"rsa-3072","default":"ecdsa-p256","from":"cluster"/,
  );
  const both = await known.call('GET', '/api/v1/settings?host=h1&cluster=c1');
  assert.equal(both.problem().code, 'setting.scope');
  const unknown = await temporaryManager(t);
  const missing = await unknown.call('PUT', '/api/v1/settings/key.algorithm?host=h9', {
    body: { value: null },
  });
  assert.deepEqual([missing.status, missing.problem().code], [404, 'host.unknown']);
});

test('figures are in the Prometheus text format, with requests and jobs', async (t) => {
  const domain: ComposeDomain = async (core) => {
    core.metrics.counter('virt_trust_test_total', 'A\nhelp.').add({ label: 'a "quoted"\\\n value' }, 2);
    return { handlers: {} };
  };
  const { call } = await temporaryManager(t, [domain]);
  await call('GET', '/healthz');
  const { text, headers } = await call('GET', '/metrics');
  assert.match(headers.get('content-type') ?? '', /^text\/plain/);
  assert.match(text, /^virt_trust_http_requests_total\{operation="getHealth",status="200"\} 1$/m);
  assert.match(text, /^virt_trust_test_total\{label="a \\"quoted\\"\\\\\\n value"\} 2$/m);
  for (const line of text.trimEnd().split('\n')) {
    assert.match(
      line,
      /^(# (HELP|TYPE) [a-z_]+ .*|[a-z_]+(\{[a-z]+="([^"\\\n]|\\.)*"(,[a-z]+="([^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+)$/,
    );
  }
});

test('a domain that is not ready makes the manager not ready', async (t) => {
  const domain: ComposeDomain = async () => ({
    handlers: {},
    ready: async () => {
      throw new Error('not yet');
    },
  });
  const { call } = await temporaryManager(t, [domain]);
  assert.equal((await call('GET', '/healthz')).status, 200);
  assert.equal((await call('GET', '/readyz')).status, 500);
});

test('every operation of the contract has something that does it', async (t) => {
  const { call } = await temporaryManager(t, domainsOf({ dns: [], subnets: [] }));
  for (const { id, method, path } of MANAGER_OPERATIONS) {
    const { status } = await call(method, path.replace(/\{\w+\}/g, 'x'), { token: '' });
    assert.notEqual(status, 404, id);
  }
});

test('after the seal key was rotated the manager has the keys it had, and the copy of the old key opens none', async (t) => {
  const domains = domainsOf({ dns: [], subnets: [] });
  const first = await temporaryManager(t, domains);
  const options = { token: first.token };
  const before = (await first.call('GET', '/api/v1/manager/identity')).text;
  await first.close();
  const { stateDirectory } = first;
  const oldKey = readFileSync(join(stateDirectory, 'seal.key'));
  const second = await temporaryManager(t, domains, { stateDirectory, rotateSealKey: true });
  assert.equal((await second.call('GET', '/api/v1/manager/identity', options)).text, before);
  assert.match((await second.call('GET', '/api/v1/audit', options)).text, /"action":"seal.rotate"/);
  await second.close();
  const third = await temporaryManager(t, domains, { stateDirectory });
  assert.equal((await third.call('GET', '/api/v1/manager/identity', options)).text, before);
  await third.close();
  writeFileSync(join(stateDirectory, 'seal.key'), oldKey);
  await assert.rejects(temporaryManager(t, domains, { stateDirectory }), (error) =>
    isTrustError(error, 'seal.wrong_key'),
  );
});

test('who has a copy of the state directory without seal.key has no private key, in whatever form', async (t) => {
  const { stateDirectory } = await temporaryManager(t, domainsOf({ dns: [], subnets: [] }));
  const keys = parseSealKeys(readFileSync(join(stateDirectory, 'seal.key'), 'utf8'), 'seal.key');
  const seal = new Seal(keys, systemRandomness);
  const files = readdirSync(stateDirectory)
    .filter((name) => name !== 'seal.key')
    .map((name) => readFileSync(join(stateDirectory, name)));
  const copy = new DatabaseSync(join(stateDirectory, 'manager.db'), { readOnly: true });
  t.after(() => copy.close());
  let seen = 0;
  for (const { table, key, column } of SEALED_COLUMNS.filter((sealed) => sealed.table !== 'seal_check')) {
    for (const row of copy.prepare(`select ${key} as place, ${column} as value from ${table}`).all()) {
      const place = { table, row: String(row['place']), column };
      const plaintext = Buffer.from(seal.open(place, row['value'] as Uint8Array));
      for (const secret of formsOf(plaintext)) {
        assert.equal(
          files.some((file) => file.includes(secret)),
          false,
          `${table}.${column}`,
        );
      }
      seen += 1;
    }
  }
  assert.ok(seen >= 7, 'three authorities with two keys each, and the channel’s');
});

/** A private key as it was kept, and its secret number in bytes, base64url and hexadecimal. */
function formsOf(plaintext: Buffer): Buffer[] {
  const pem = plaintext.toString().startsWith('-----BEGIN');
  const key = pem
    ? createPrivateKey(plaintext)
    : createPrivateKey({ key: plaintext, format: 'der', type: 'pkcs8' });
  const number = Buffer.from(key.export({ format: 'jwk' }).d ?? '', 'base64url');
  assert.ok(number.length >= 32);
  return [plaintext, number, Buffer.from(number.toString('base64url')), Buffer.from(number.toString('hex'))];
}
