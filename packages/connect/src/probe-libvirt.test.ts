import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import { parseInstant } from '@virt-trust/base/instant.ts';
import { PROCEDURES } from '@virt-trust/libvirt/rpc.ts';
import { makeTestCertificate } from '@virt-trust/libvirt/test-certificates.ts';
import { encodeXdrString, encodeXdrUnsigned } from '@virt-trust/libvirt/xdr.ts';
import fc from 'fast-check';
import { type LibvirtProbeOptions, probeLibvirt } from './probe-libvirt.ts';
import { type LibvirtdOptions, reply, serveLibvirtd, serveTcp } from './test-servers.ts';

const root = await makeTestCertificate({ subject: 'CN=root', ca: true });
const other = await makeTestCertificate({ subject: 'CN=other', ca: true });
const names = [
  { kind: 'ip', value: '127.0.0.1' },
  { kind: 'dns', value: 'host1.example' },
] as const;
const server = await makeTestCertificate({ subject: 'CN=host1', issuer: root, names });
const client = await makeTestCertificate({ subject: 'CN=client', issuer: root });
const stranger = await makeTestCertificate({ subject: 'CN=client', issuer: other });
const clock = { now: () => parseInstant('2026-06-01T00:00:00Z') };

function options(port: number, more: Partial<LibvirtProbeOptions> = {}): LibvirtProbeOptions {
  return {
    host: '127.0.0.1',
    port,
    serverName: '127.0.0.1',
    trust: root.pem,
    client: { certificatePem: client.pem, privateKeyPem: client.keyPem },
    clock,
    timeoutMs: 60_000,
    ...more,
  };
}

async function refusal(probe: Promise<unknown>): Promise<TrustError> {
  try {
    await probe;
  } catch (error) {
    if (isTrustError(error)) return error;
    throw error;
  }
  return assert.fail('the probe succeeded');
}

const libvirtd = (t: TestContext, more: Partial<LibvirtdOptions> = {}) =>
  serveLibvirtd(t, { identity: server, clientAuthority: root, ...more });

test('a daemon that trusts us and that we trust shows certificate, protocol, confirmation byte and AUTH_LIST', async (t) => {
  const { port } = await libvirtd(t);
  const evidence = await probeLibvirt(options(port));
  assert.equal(evidence.servedCertificate.pin, server.certificate.pin);
  assert.deepEqual(Buffer.from(evidence.servedCertificate.der), Buffer.from(server.certificate.der));
  assert.deepEqual(evidence.servedCertificate.names, ['IP:127.0.0.1', 'DNS:host1.example']);
  assert.equal(evidence.servedCertificate.notAfter, server.certificate.notAfter);
  assert.equal(evidence.protocol, 'TLSv1.3');
  assert.equal(evidence.confirmationByte, true);
  assert.deepEqual(evidence.authList, ['none']);
  assert.equal(evidence.hostName, undefined);
});

test('TLS 1.2, a DNS name, and intermediates that the server presents are fine', async (t) => {
  const issuing = await makeTestCertificate({ subject: 'CN=issuing', issuer: root, ca: true });
  const identity = await makeTestCertificate({ subject: 'CN=h', issuer: issuing, names });
  const { port } = await libvirtd(t, { identity, intermediates: [issuing], tls: { maxVersion: 'TLSv1.2' } });
  const evidence = await probeLibvirt(options(port, { serverName: 'host1.example' }));
  assert.equal(evidence.protocol, 'TLSv1.2');
  assert.equal(evidence.servedCertificate.issuer, 'CN=issuing');
});

test('with a URI the connection is opened read-only and the host’s name asked for', async (t) => {
  const seen: number[] = [];
  const { port } = await libvirtd(t, {
    answer: (call) => {
      seen.push(call.procedure);
      if (call.procedure === PROCEDURES.connectGetHostname) return reply(call, encodeXdrString('host1'));
      return reply(call, call.procedure === PROCEDURES.authList ? encodeXdrUnsigned(0) : new Uint8Array());
    },
  });
  const evidence = await probeLibvirt(options(port, { openUri: 'qemu:///system' }));
  assert.equal(evidence.hostName, 'host1');
  assert.deepEqual(evidence.authList, []);
  assert.deepEqual(seen, [66, 1, 59, 2]);
});

test('nobody listening, and a server that speaks no TLS, are told apart', async (t) => {
  const port = await serveTcp(t, (socket) => socket.end('220 mail.example ESMTP\r\n'));
  const noTls = await refusal(probeLibvirt(options(port)));
  assert.equal(noTls.code, 'probe.handshake');
  const nobody = await refusal(probeLibvirt(options(1)));
  assert.equal(nobody.code, 'probe.connect');
  assert.equal(nobody.category, 'unavailable');
  assert.match(nobody.message, /cannot probe 127\.0\.0\.1 port 1: .*ECONNREFUSED/);
});

test('a certificate of another authority, or expired, fails at the chain and nothing is sent to its server', async (t) => {
  const untrusted = await libvirtd(t);
  const error = await refusal(probeLibvirt(options(untrusted.port, { trust: other.pem })));
  assert.equal(error.code, 'probe.chain');
  assert.equal(error.context['servedPin'], server.certificate.pin);
  await untrusted.closed;
  assert.equal(untrusted.received().length, 0);
  const late = { now: () => parseInstant('2037-01-01T00:00:00Z') };
  const expired = await refusal(probeLibvirt(options((await libvirtd(t)).port, { clock: late })));
  assert.equal(expired.code, 'probe.chain');
  assert.match(expired.message, /it expired at 2036-01-01T00:00:00Z/);
});

test('a certificate for another name fails at the name, which is not looked at where none is asked for', async (t) => {
  const { port, closed, received } = await libvirtd(t);
  const error = await refusal(probeLibvirt(options(port, { serverName: '192.0.2.1' })));
  assert.equal(error.code, 'probe.name');
  assert.match(error.message, /is for IP:127\.0\.0\.1, DNS:host1\.example, not for 192\.0\.2\.1/);
  await closed;
  assert.equal(received().length, 0);
  const evidence = await probeLibvirt(options((await libvirtd(t)).port, { serverName: null }));
  assert.equal(evidence.chainVerified, true);
});

for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
  test(`with ${maxVersion} a client certificate that the server refuses shows at the confirmation byte`, async (t) => {
    const { port } = await libvirtd(t, { tls: { maxVersion } });
    const foreign = { certificatePem: stranger.pem, privateKeyPem: stranger.keyPem };
    const refused = await refusal(probeLibvirt(options(port, { client: foreign })));
    assert.equal(refused.code, 'probe.confirmation');
    assert.match(refused.message, /it refuses our client certificate/);
    const bare = await refusal(probeLibvirt(options(port, { client: undefined })));
    assert.match(bare.message, /it refuses a client without a certificate/);
  });
}

test('a server that demands a certificate by a TLS alert fails at the confirmation byte as well', async (t) => {
  const { port } = await libvirtd(t, { tls: { rejectUnauthorized: true } });
  const error = await refusal(probeLibvirt(options(port, { client: undefined })));
  assert.equal(error.code, 'probe.confirmation');
});

test('a byte other than the confirmation, and an error in answer to AUTH_LIST, are told', async (t) => {
  const wrong = await refusal(
    probeLibvirt(options((await libvirtd(t, { confirmation: Buffer.of(2) })).port)),
  );
  assert.equal(wrong.code, 'probe.confirmation');
  assert.match(wrong.message, /sent byte 2/);
  const payload = Buffer.concat([
    encodeXdrUnsigned(1),
    encodeXdrUnsigned(7),
    encodeXdrUnsigned(1),
    encodeXdrString('too many clients'),
  ]);
  const { port } = await libvirtd(t, { answer: (call) => reply(call, payload, 1) });
  const told = await refusal(probeLibvirt(options(port)));
  assert.equal(told.code, 'probe.auth_list');
  assert.match(told.message, /libvirt answers: "too many clients"/);
});

test('a server that falls silent ends in the deadline, or when the caller gives up, at the step it stood at', async (t) => {
  const controller = new AbortController();
  const { port } = await libvirtd(t, {
    answer: () => {
      controller.abort();
      return undefined;
    },
  });
  const cancelled = await refusal(probeLibvirt(options(port, { signal: controller.signal })));
  assert.equal(cancelled.code, 'probe.auth_list');
  assert.match(cancelled.message, /it was cancelled/);
  const silent = await serveTcp(t, () => {});
  const late = await refusal(probeLibvirt(options(silent, { timeoutMs: 300 })));
  assert.match(late.message, /no answer within 300 ms/);
  assert.deepEqual(
    [late, cancelled].map(({ context }) => context?.['expired']),
    [true, false],
  );
  const before = await refusal(probeLibvirt(options(silent, { signal: AbortSignal.abort() })));
  assert.equal(before.code, 'probe.connect');
});

test('trust that is no PEM is refused before anything is sent', async (t) => {
  const { port } = await libvirtd(t);
  const error = await refusal(probeLibvirt(options(port, { trust: 'none' })));
  assert.match(error.code, /^probe\./);
});

test('whatever bytes a server sends after the handshake, the probe ends in an error that says where', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), fc.boolean(), async (bytes, confirmed) => {
      const script = confirmed
        ? { answer: () => bytes }
        : { confirmation: Buffer.concat([Buffer.of(0), bytes]) };
      const { port } = await libvirtd(t, script);
      // Bytes that begin a packet make the probe wait for its rest.
      const error = await refusal(probeLibvirt(options(port, { timeoutMs: confirmed ? 150 : 60_000 })));
      assert.match(error.code, /^probe\./);
    }),
    { numRuns: 15 },
  );
});
