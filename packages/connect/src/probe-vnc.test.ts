import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { parseInstant } from '@virt-trust/base/instant.ts';
import { makeTestCertificate } from '@virt-trust/libvirt/test-certificates.ts';
import { probeVnc } from './probe-vnc.ts';
import { serveTcp, serveVnc } from './test-servers.ts';

const root = await makeTestCertificate({ subject: 'CN=root', ca: true });
const names = [{ kind: 'ip', value: '127.0.0.1' }] as const;
const identity = await makeTestCertificate({ subject: 'CN=host1', issuer: root, names });
const client = await makeTestCertificate({ subject: 'CN=client', issuer: root });
const clock = { now: () => parseInstant('2026-06-01T00:00:00Z') };

const options = (port: number) => ({
  host: '127.0.0.1',
  port,
  serverName: '127.0.0.1',
  trust: root.pem,
  clock,
  timeoutMs: 60_000,
});

async function codeOf(probe: Promise<unknown>): Promise<string> {
  try {
    await probe;
    return 'succeeded';
  } catch (error) {
    return isTrustError(error) ? error.code : assert.fail(String(error));
  }
}

for (const [subtype, name, greeting] of [
  [260, 'X509None', Buffer.alloc(4)],
  [261, 'X509Vnc', Buffer.alloc(16, 7)],
] as const) {
  test(`VeNCrypt ${name}: the exchange of a real client shows what is served and ends before a password`, async (t) => {
    const port = await serveVnc(t, { identity, subtype, greeting });
    const evidence = await probeVnc(options(port));
    assert.equal(evidence.servedCertificate.pin, identity.certificate.pin);
    assert.deepEqual([evidence.subtype, evidence.accepted, evidence.protocol], [name, true, 'TLSv1.3']);
  });
}

test('VeNCrypt X509Plain: the server waits for us, so its acceptance stays open', async (t) => {
  const port = await serveVnc(t, { identity, subtype: 262, greeting: new Uint8Array() });
  const evidence = await probeVnc(options(port));
  assert.deepEqual([evidence.subtype, evidence.accepted], ['X509Plain', false]);
});

test('a server that verifies clients accepts us with a certificate and refuses us without', async (t) => {
  const port = await serveVnc(t, { identity, subtype: 260, clientAuthority: root });
  const own = { certificatePem: client.pem, privateKeyPem: client.keyPem };
  assert.equal((await probeVnc({ ...options(port), client: own })).accepted, true);
  assert.equal(await codeOf(probeVnc(options(port))), 'probe.confirmation');
});

test('a VM without TLS, a subtype without certificate, a foreign authority and another name say so', async (t) => {
  const plain = await serveTcp(t, (socket) =>
    socket.write(Buffer.concat([Buffer.from('RFB 003.008\n'), Buffer.of(1, 1)])),
  );
  assert.equal(await codeOf(probeVnc(options(plain))), 'probe.vencrypt');
  const anonymous = await serveVnc(t, { identity, subtype: 257 });
  assert.equal(await codeOf(probeVnc(options(anonymous))), 'probe.vencrypt');
  const closing = await serveTcp(t, (socket) => socket.end('RFB'));
  assert.equal(await codeOf(probeVnc(options(closing))), 'probe.vencrypt');
  const port = await serveVnc(t, { identity, subtype: 260 });
  const other = await makeTestCertificate({ subject: 'CN=other', ca: true });
  assert.equal(await codeOf(probeVnc({ ...options(port), trust: other.pem })), 'probe.chain');
  assert.equal(await codeOf(probeVnc({ ...options(port), serverName: 'host2' })), 'probe.name');
});
