import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { type Certificate, encodeCertificatesPem, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { parseCrl } from '@virt-trust/pki/crl.ts';
import { statusInCrl } from '@virt-trust/pki/crl-status.ts';
import { parseOcspResponse } from '@virt-trust/pki/ocsp-response.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { domainsOf } from '../domains.ts';
import { Metrics } from '../metrics/metrics.ts';
import { ocspRequest, temporaryResponder } from '../status/fixtures.ts';
import { temporaryDirectory } from '../store/fixtures.ts';
import { temporaryManager } from './fixtures.ts';
import { statusHandler } from './status-http.ts';
import { createStatusServer, listenForStatus } from './status-routes.ts';

const run = promisify(execFile);
const has = (program: string, argument: string) =>
  run(program, [argument]).then(
    () => true,
    () => false,
  );
const noTools =
  !((await has('openssl', 'version')) && (await has('ocsptool', '--version'))) &&
  'openssl and ocsptool (gnutls-bin) are not installed';

async function temporaryStatusServer(t: TestContext) {
  const parts = await temporaryResponder(t, systemClock);
  const { responder, crls } = parts;
  const answers = new Metrics().counter('answers', 'Answers.');
  const handler = statusHandler({ responder, crls, clock: systemClock, log: silentLog, answers });
  const server = createStatusServer(handler);
  const url = await listenForStatus(server, { address: '127.0.0.1', port: 0 });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { ...parts, server, url };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Unlike fetch it sends a path as it is. */
async function call(
  url: string,
  options: {
    readonly method?: string;
    readonly path: string;
    readonly headers?: Record<string, string>;
    readonly body?: Buffer;
  },
): Promise<Answer> {
  const { port, hostname } = new URL(url);
  const { method = 'GET', path, headers = {}, body } = options;
  const sent = request({ host: hostname, port, method, path, headers });
  sent.end(body);
  const [response] = await once(sent, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) };
}

const OCSP = { 'content-type': 'application/ocsp-request' };
const kindOf = ({ body }: Answer) => parseOcspResponse(body).responses[0]?.status.kind;

test('as long as a restored manager holds its CRLs back none is published, and caches keep nothing of that', async (t) => {
  const { url, source, publish } = await temporaryStatusServer(t);
  await publish(1n);
  assert.equal((await call(url, { path: '/crl/control.crl' })).status, 200);
  source.held = true;
  const { status, headers } = await call(url, { path: '/crl/control.crl' });
  assert.equal(status, 503);
  assert.equal(headers['cache-control'], 'no-store');
  assert.equal(headers['retry-after'], '60');
});

test('RFC 6960 A.1: requests come by POST, and by GET in base64, percent-encoded or not', async (t) => {
  const { url, control, kvm1 } = await temporaryStatusServer(t);
  const der = ocspRequest(control.issuing, [kvm1.serialNumber]);
  const post = await call(url, { method: 'POST', path: '/ocsp', headers: OCSP, body: der });
  assert.deepEqual([post.status, post.headers['content-type']], [200, 'application/ocsp-response']);
  assert.equal(kindOf(post), 'good');
  const base64 = der.toString('base64');
  for (const path of [`/ocsp/${base64}`, `/ocsp/${encodeURIComponent(base64)}`]) {
    const get = await call(url, { path });
    assert.deepEqual([get.status, get.headers['content-type']], [200, 'application/ocsp-response']);
    assert.deepEqual(get.body, post.body);
  }
});

test('RFC 6960 A.1: base64 with slashes and plus signs is read either way', async (t) => {
  const { url, control, source } = await temporaryStatusServer(t);
  let base64 = '';
  // About one serial number in three has both.
  while (!/\/.*\+|\+.*\//.test(base64)) {
    const serial = newSerialNumber(systemRandomness);
    source.statuses.set(`control ${serial}`, { kind: 'good' });
    base64 = ocspRequest(control.issuing, [serial]).toString('base64');
  }
  for (const path of [`/ocsp/${base64}`, `/ocsp/${encodeURIComponent(base64)}`]) {
    assert.equal(kindOf(await call(url, { path })), 'good');
  }
});

test('RFC 5019 §6.2, RFC 9111: answers by GET say how long they hold, and are not sent again to who has them', async (t) => {
  const { url, control, kvm1, source } = await temporaryStatusServer(t);
  const path = `/ocsp/${ocspRequest(control.issuing, [kvm1.serialNumber]).toString('base64')}`;
  const first = await call(url, { path });
  const [single] = parseOcspResponse(first.body).responses;
  const age = /^max-age=(\d+), public, no-transform, must-revalidate$/.exec(
    first.headers['cache-control'] ?? '',
  );
  assert.ok(Number(age?.[1]) > 0 && Number(age?.[1]) <= 300);
  assert.equal(Date.parse(first.headers['last-modified'] ?? ''), single?.thisUpdate);
  assert.ok(Date.parse(first.headers.expires ?? '') <= Number(single?.nextUpdate));
  const { etag = '' } = first.headers;
  const again = await call(url, { path, headers: { 'if-none-match': etag } });
  assert.deepEqual([again.status, again.body.length, again.headers.etag], [304, 0, etag]);
  const modified = first.headers['last-modified'] ?? '';
  assert.equal((await call(url, { path, headers: { 'if-modified-since': modified } })).status, 304);
  const head = await call(url, { method: 'HEAD', path });
  assert.deepEqual([head.status, head.headers['content-length']], [200, String(first.body.length)]);
  source.revoke('control', kvm1.serialNumber, systemClock.now());
  const changed = await call(url, { path, headers: { 'if-none-match': etag } });
  assert.deepEqual([changed.status, kindOf(changed)], [200, 'revoked']);
});

test('RFC 6960 §2.3: no request is answered with malformedRequest, which no cache keeps', async (t) => {
  const { url } = await temporaryStatusServer(t);
  for (const path of ['/ocsp/%%%', '/ocsp/aGVsbG8=', '/ocsp/-_-']) {
    const answer = await call(url, { path });
    const { status, headers, body } = answer;
    assert.deepEqual(
      [status, headers['cache-control'], body.toString('hex')],
      [200, 'no-store', '30030a0101'],
    );
  }
  const post = await call(url, { method: 'POST', path: '/ocsp', headers: OCSP, body: Buffer.from('x') });
  assert.equal(post.body.toString('hex'), '30030a0101');
});

test('SECURITY: bodies are bounded and paths and methods few', async (t) => {
  const { url } = await temporaryStatusServer(t);
  const large = Buffer.alloc(17 * 1024);
  const tooLarge = await call(url, { method: 'POST', path: '/ocsp', headers: OCSP, body: large });
  assert.equal(tooLarge.status, 413);
  const json = { 'content-type': 'application/json' };
  const wrongType = await call(url, {
    method: 'POST',
    path: '/ocsp',
    headers: json,
    body: Buffer.from('{}'),
  });
  assert.equal(wrongType.status, 415);
  for (const path of [
    '/',
    '/crl/control.pem',
    '/crl/..%2fmanager.db.crl',
    '/crl/nobody.crl',
    '/api/v1/hosts',
  ]) {
    assert.equal((await call(url, { path })).status, 404, path);
  }
  const put = await call(url, { method: 'PUT', path: '/crl/control.crl' });
  assert.deepEqual([put.status, put.headers.allow], [405, 'GET, HEAD']);
  assert.equal((await call(url, { path: '/ocsp' })).status, 405);
});

test('a client that goes away in the middle of a request disturbs nobody', async (t) => {
  const { url, server, control, kvm1 } = await temporaryStatusServer(t);
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const seen = once(server, 'request');
  socket.write(
    'POST /ocsp HTTP/1.1\r\nhost: x\r\ncontent-type: application/ocsp-request\r\ncontent-length: 99\r\n\r\nhalf',
  );
  await seen;
  socket.destroy();
  const path = `/ocsp/${ocspRequest(control.issuing, [kvm1.serialNumber]).toString('base64')}`;
  assert.equal(kindOf(await call(url, { path })), 'good');
});

test('RFC 5280 §4.2.1.13: the newest CRL is served as DER, with cache headers and conditional requests', async (t) => {
  const { url, control, kvm1, kvm2, publish } = await temporaryStatusServer(t);
  const path = '/crl/control.crl';
  assert.equal((await call(url, { path })).status, 404);
  await publish(1n, kvm1);
  const first = await call(url, { path });
  assert.deepEqual([first.status, first.headers['content-type']], [200, 'application/pkix-crl']);
  const crls = [parseCrl(first.body)];
  const ask = (certificate: Certificate) =>
    statusInCrl({ certificate, issuers: [control.issuing], crls, at: systemClock.now() }).kind;
  assert.deepEqual([ask(kvm1), ask(kvm2)], ['revoked', 'good']);
  const { etag = '' } = first.headers;
  assert.match(first.headers['cache-control'] ?? '', /^max-age=300, public/);
  assert.equal((await call(url, { path, headers: { 'if-none-match': `"x", W/${etag}` } })).status, 304);
  await publish(2n, kvm1, kvm2);
  const second = await call(url, { path, headers: { 'if-none-match': etag } });
  assert.deepEqual([second.status, parseCrl(second.body).extensions.crlNumber], [200, 2n]);
});

test('openssl ocsp and ocsptool ask over the network and are satisfied', { skip: noTools }, async (t) => {
  const { url, control, kvm1, kvm2, source } = await temporaryStatusServer(t);
  const folder = temporaryDirectory(t);
  const save = (name: string, ...list: Certificate[]): string => {
    const path = join(folder, name);
    writeFileSync(path, encodeCertificatesPem(list));
    return path;
  };
  const files = {
    issuing: save('issuing.pem', control.issuing),
    root: save('root.pem', control.root),
    kvm1: save('kvm1.pem', kvm1),
    kvm2: save('kvm2.pem', kvm2),
  };
  source.revoke('control', kvm2.serialNumber, systemClock.now());
  for (const extra of [[], ['-no_nonce']]) {
    const certificates = ['-cert', files.kvm1, '-sha256', '-cert', files.kvm2];
    const trust = ['-CAfile', files.root, '-verify_other', files.issuing];
    const args = [
      'ocsp',
      '-url',
      `${url}/ocsp`,
      '-issuer',
      files.issuing,
      ...certificates,
      ...trust,
      ...extra,
    ];
    const { stdout, stderr } = await run('openssl', args);
    assert.match(stderr, /Response verify OK/);
    assert.doesNotMatch(stderr, /nonce/i);
    assert.match(stdout, /kvm1\.pem: good[\s\S]*kvm2\.pem: revoked[\s\S]*Reason: keyCompromise/);
  }
  for (const [name, expected] of [
    ['kvm1', /Certificate Status: good/],
    ['kvm2', /Certificate Status: revoked/],
  ] as const) {
    const args = [`--ask=${url}/ocsp`, '--load-cert', files[name], '--load-issuer', files.issuing];
    const { stdout } = await run('ocsptool', [...args, '--load-trust', files.issuing, '--nonce']).catch(
      (error: { stdout: string }) => error,
    );
    assert.match(stdout, expected);
    assert.match(stdout, /Verifying OCSP Response: Success/);
  }
});

test('serve --status-listen: status stands on the API without a token, and alone on a listener of its own', async (t) => {
  const manager = await temporaryManager(t, domainsOf({ dns: [], subnets: [] }), {
    statusListen: { address: '127.0.0.1', port: 0 },
  });
  const { json } = await manager.call('GET', '/api/v1/authorities');
  const authorities = json()['items'] as { name: string; bundle: string }[];
  assert.ok(authorities.length > 0);
  const control = authorities.find(({ name }) => name === 'control');
  const [issuer] = parseCertificates(control?.bundle ?? '');
  assert.ok(issuer !== undefined);
  const body = ocspRequest(issuer, [issuer.serialNumber]);
  for (const url of [manager.url, manager.statusUrl ?? '']) {
    const crl = await call(url, { path: '/crl/control.crl' });
    assert.equal(crl.status, 200);
    assert.equal(parseCrl(crl.body).entries.count, 0);
    const post = await call(url, { method: 'POST', path: '/ocsp', headers: OCSP, body });
    assert.equal(kindOf(post), 'unknown');
    const get = await call(url, { path: `/ocsp/${encodeURIComponent(body.toString('base64'))}` });
    assert.equal(kindOf(get), 'unknown');
  }
  const elsewhere = await call(manager.statusUrl ?? '', { path: '/api/v1/authorities' });
  assert.equal(elsewhere.status, 404);
});

test('SECURITY: who asks and then reads nothing of a long answer loses the connection', async (t) => {
  const server = createStatusServer((_, response) => void response.end(Buffer.alloc(64 * 1024 * 1024)), 100);
  t.after(() => void server.close());
  const url = new URL(await listenForStatus(server, { address: '127.0.0.1', port: 0 }));
  const client = connect(Number(url.port), url.hostname);
  t.after(() => void client.destroy());
  client.on('error', () => {});
  const [socket] = await once(server, 'connection');
  client.pause().write('GET /crl/control.crl HTTP/1.1\r\nhost: a\r\n\r\n');
  await once(socket, 'close');
  assert.ok(client.bytesRead < 64 * 1024 * 1024);
});
