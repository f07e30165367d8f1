import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { DAY, HOUR, instant, MINUTE } from '@virt-trust/base/instant.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { decodePem, encodePem } from '@virt-trust/pki/pem.ts';
import { settableClock, temporaryDirectory, temporaryStore } from '../store/fixtures.ts';
import { openStore } from '../store/open-store.ts';
import { certificateView } from './certificate-view.ts';
import { issuanceOn, type RequestParts, requestOfKvm2, requestPem } from './fixtures.ts';
import { OwnClients } from './own-client.ts';

const LIBVIRT = { host: 'kvm1', service: 'libvirt', actor: 'token:admin' } as const;

async function fresh(t: TestContext) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  return { clock, database, ...(await issuanceOn(database, clock)) };
}

test('What is issued is accepted by OpenSSL and GnuTLS for its purpose.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  const { issuance, authorities } = await issuanceOn(database, systemClock);
  const directory = temporaryDirectory(t);
  const run = (program: string, ...args: string[]) =>
    execFileSync(program, args, { cwd: directory, encoding: 'utf8', stdio: 'pipe' });
  const verify = (purpose: 'control' | 'migration', pem: string, ...usages: string[]) => {
    const { root, issuing } = authorities.byPurpose(purpose);
    writeFileSync(join(directory, 'root.pem'), encodePem('CERTIFICATE', root.der));
    writeFileSync(join(directory, 'issuing.pem'), encodePem('CERTIFICATE', issuing.der));
    writeFileSync(join(directory, 'bundle.pem'), authorities.bundle(purpose));
    writeFileSync(join(directory, 'leaf.pem'), pem);
    for (const usage of usages) {
      const chain = ['-CAfile', 'root.pem', '-untrusted', 'issuing.pem', 'leaf.pem'];
      run('openssl', 'verify', '-x509_strict', '-purpose', usage, ...chain);
    }
    return run('certtool', '--verify', '--load-ca-certificate', 'bundle.pem', '--infile', 'leaf.pem');
  };
  const libvirt = await issuance.issueForHost({ ...LIBVIRT, csr: await requestPem() });
  assert.match(verify('control', libvirt.pem, 'sslserver'), /Verified/);
  const migration = await issuance.issueForHost({
    ...LIBVIRT,
    service: 'migration',
    csr: await requestPem(),
  });
  assert.match(verify('migration', migration.pem, 'sslserver', 'sslclient'), /Verified/);
  const client = await issuance.issueClient({
    csr: await requestPem({ commonName: 'virt-trust migration 7', names: [] }),
    commonName: 'virt-trust migration 7',
    minutes: 10,
    actor: 'manager',
  });
  assert.match(verify('control', client.pem, 'sslclient'), /Verified/);
  assert.throws(() => verify('migration', libvirt.pem), /Command failed/);
});

test('A certificate has the names of the request, the profile’s purposes and the back-dated lifetime.', async (t) => {
  const { issuance, clock, certificates } = await fresh(t);
  const issued = await issuance.issueForHost({ ...LIBVIRT, csr: await requestPem() });
  const [certificate] = parseCertificates(issued.pem);
  assert.equal(certificate?.notBefore, clock.now() - 65 * MINUTE);
  assert.equal(certificate?.notAfter, clock.now() + 180 * DAY);
  assert.deepEqual(certificate?.extensions.extKeyUsage?.purposes, [OID.serverAuth]);
  await issuance.settled();
  const record = await certificates.find(issued.serialNumber);
  assert.ok(record);
  const view = certificateView(record, () => 'control');
  assert.equal(view.state, 'issued');
  assert.equal(view.pem, issued.pem);
  assert.deepEqual(view.names, { dns: ['kvm1.example'], addresses: ['10.0.0.1', 'fd00::1'] });
  assert.equal(view.subject, 'CN=kvm1,O=virt-trust');
});

test('No certificate outlives its authority.', async (t) => {
  const { issuance, clock, authorities } = await fresh(t);
  const { issuing } = authorities.byPurpose('control');
  clock.advance(issuing.notAfter - clock.now() - DAY);
  const late = await issuance.issueForHost({ ...LIBVIRT, csr: await requestPem() });
  assert.equal(late.notAfter, issuing.notAfter);
  clock.advance(2 * DAY);
  await assert.rejects(issuance.issueForHost({ ...LIBVIRT, csr: await requestPem() }), (error) =>
    isTrustError(error, 'issuance.authority_expired'),
  );
});

/** The request with one octet of its signature changed. */
async function forged(): Promise<string> {
  const [block] = decodePem(await requestPem());
  const der = Buffer.from(block?.bytes ?? []);
  der[der.length - 3] = (der[der.length - 3] ?? 0) ^ 1;
  return encodePem('CERTIFICATE REQUEST', der);
}

const withNames = (parts: RequestParts) => () => requestPem(parts);

const REFUSED: readonly [what: string, csr: () => Promise<string>, rule: string, host?: string][] = [
  ['whose signature is not of its key', forged, 'signature.invalid'],
  ['for another host’s name', withNames({ names: ['kvm2.example'] }), 'issuance.name_not_declared'],
  ['for a wildcard', withNames({ sans: [{ kind: 'dns', value: '*.example' }] }), 'issuance.name_wildcard'],
  ['for a loopback address', withNames({ names: ['127.0.0.1'] }), 'issuance.address_loopback'],
  ['with another subject', withNames({ commonName: 'root' }), 'issuance.subject_mismatch'],
  ['of an unknown host', withNames({}), 'issuance.host_unknown', 'kvm9'],
  ['that is no PEM', async () => 'hello', 'issuance.request_malformed'],
  ['that is two', async () => (await requestPem()) + (await requestPem()), 'issuance.request_malformed'],
  [
    'that is a certificate',
    async () => (await requestPem()).replaceAll(' REQUEST', ''),
    'issuance.request_malformed',
  ],
  ['of broken base64', async () => (await requestPem()).replace('MII', 'M!I'), 'pem.malformed'],
  [
    'of broken DER',
    async () => encodePem('CERTIFICATE REQUEST', Buffer.from('3003020100', 'hex')),
    'der.malformed',
  ],
];

for (const [what, csr, rule, host] of REFUSED) {
  test(`A request ${what} is refused by ${rule}, audited, and nothing is recorded.`, async (t) => {
    const { issuance, audit, certificates } = await fresh(t);
    const order = { ...LIBVIRT, host: host ?? 'kvm1', csr: await csr() };
    await assert.rejects(issuance.issueForHost(order), (error) => isTrustError(error, rule));
    const last = (await audit.list(0, 100)).at(-1);
    assert.equal(last?.outcome, 'refused');
    assert.equal(last?.actor, 'token:admin');
    assert.ok(last?.detail.startsWith(`${rule}: `));
    assert.deepEqual(await certificates.list({ before: null, host: null, limit: 10 }), []);
  });
}

test('A key is certified again for its own service, and for no other service, host or client.', async (t) => {
  const { issuance, certificates } = await fresh(t);
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const csr = await requestPem({ key });
  const reused = (error: unknown) => isTrustError(error, 'issuance.key_reused');
  await issuance.issueForHost({ ...LIBVIRT, csr });
  await issuance.issueForHost({ ...LIBVIRT, csr });
  await assert.rejects(issuance.issueForHost({ ...LIBVIRT, service: 'migration', csr }), reused);
  await assert.rejects(
    issuance.issueForHost({ ...LIBVIRT, host: 'kvm2', csr: await requestOfKvm2(key) }),
    reused,
  );
  const client = { commonName: 'c', minutes: 5, actor: 'manager' };
  const clientCsr = await requestPem({ key, commonName: 'c', names: [] });
  await assert.rejects(issuance.issueClient({ ...client, csr: clientCsr }), reused);
  const own = await requestPem({ commonName: 'c', names: [] });
  await issuance.issueClient({ ...client, csr: own });
  await assert.rejects(issuance.issueClient({ ...client, csr: own }), reused);
  assert.equal((await certificates.list({ before: null, host: null, limit: 10 })).length, 3);
});

test('Of two requests with one key that come at once, one is refused.', async (t) => {
  const { issuance } = await fresh(t);
  const csr = await requestOfKvm2(await generatePrivateKey('ecdsa-p256-sha256'));
  const services = ['libvirt', 'migration', 'vnc'] as const;
  const outcomes = await Promise.allSettled(
    services.map((service) => issuance.issueForHost({ host: 'kvm2', service, csr, actor: 'test' })),
  );
  assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
});

test('Concurrent requests get serial numbers of their own, each with one entry in the audit log and, once settled, its mark.', async (t) => {
  const { issuance, audit, certificates } = await fresh(t);
  const csrs = await Promise.all(Array.from({ length: 40 }, () => requestPem()));
  const issued = await Promise.all(csrs.map((csr) => issuance.issueForHost({ ...LIBVIRT, csr })));
  assert.equal(new Set(issued.map(({ serialNumber }) => serialNumber)).size, 40);
  const entries = await audit.list(0, 1000);
  for (const { serialNumber, pem } of issued) {
    const outcomes = entries.filter(({ subject }) => subject === serialNumber).map(({ outcome }) => outcome);
    assert.deepEqual(outcomes, ['intent']);
    assert.equal(new X509Certificate(pem).serialNumber.toLowerCase(), serialNumber);
  }
  await issuance.settled();
  const first = await certificates.list({ before: null, host: 'kvm1', limit: 25 });
  assert.ok(first.every(({ state }) => state.kind === 'issued'));
  const second = await certificates.list({ before: first.at(-1)?.sequence ?? 0, host: 'kvm1', limit: 25 });
  assert.deepEqual([first.length, second.length], [25, 15]);
  assert.deepEqual(await certificates.list({ before: null, host: 'kvm2', limit: 25 }), []);
});

test('Killed between record and signature, the record stays as the trace of the intent.', async (t) => {
  const directory = temporaryDirectory(t);
  const file = new URL('crash-process.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [file, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
  const store = openStore(directory, systemClock);
  t.after(() => store.close());
  const { certificates, audit, issuance } = await issuanceOn(store.database, systemClock);
  const [record, ...more] = await certificates.list({ before: null, host: 'kvm1', limit: 10 });
  assert.ok(record);
  assert.equal(more.length, 0);
  const view = certificateView(record, () => 'control');
  assert.deepEqual([view.state, view.pem], ['recorded', null]);
  assert.deepEqual(view.names.dns, ['kvm1.example']);
  const traces = (await audit.list(0, 100)).filter(({ subject }) => subject === record.serialNumber);
  assert.deepEqual(
    traces.map(({ outcome }) => outcome),
    ['intent'],
  );
  await issuance.issueForHost({ ...LIBVIRT, csr: await requestPem() });
});

test('On a full disk nothing is signed, the error says so, and once there is room issuance goes on and every certificate is marked.', async (t) => {
  const { issuance, database, certificates } = await fresh(t);
  const pages = database.get('pragma page_count')?.['page_count'];
  database.script(`pragma max_page_count = ${Number(pages)}`);
  const outcomes = [];
  for (let index = 0; index < 60; index++) {
    const csr = await requestPem();
    outcomes.push(await issuance.issueForHost({ ...LIBVIRT, csr }).catch((error: unknown) => error));
  }
  const failures = outcomes.filter((outcome) => isTrustError(outcome));
  assert.ok(failures.length > 0);
  assert.ok(failures.every((error) => isTrustError(error, 'store.full') && error.category === 'unavailable'));
  database.script('pragma max_page_count = 1000000');
  await issuance.issueForHost({ ...LIBVIRT, csr: await requestPem() });
  await issuance.settled();
  const records = await certificates.list({ before: null, host: null, limit: 100 });
  assert.equal(records.length, 61 - failures.length);
  assert.ok(records.every(({ state }) => state.kind === 'issued'));
});

test('The manager’s own client certificate is made once, for minutes, and anew before it ends.', async (t) => {
  const { issuance, authorities, clock } = await fresh(t);
  const own = new OwnClients(issuance, authorities, clock);
  const [first, second] = await Promise.all([own.get(), own.get()]);
  assert.equal(first, second);
  // Fifteen minutes on the clock that is furthest ahead of those that are allowed.
  assert.equal(first?.certificate.notAfter, instant(clock.now() + (15 + 65) * MINUTE));
  clock.advance(9 * MINUTE);
  assert.equal(await own.get(), first);
  clock.advance(2 * MINUTE);
  const next = await own.get();
  assert.notEqual(next.certificate.serialNumber, first?.certificate.serialNumber);
  clock.advance(HOUR);
  assert.ok(new X509Certificate((await own.get()).certificate.pem).checkPrivateKey((await own.get()).key));
});
