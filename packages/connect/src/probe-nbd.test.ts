import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { before, describe, it, type TestContext } from 'node:test';
import { TLSSocket } from 'node:tls';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { makeTestCertificate, type TestIdentity } from '@virt-trust/libvirt/test-certificates.ts';
import { probeNbd } from './probe-nbd.ts';
import { serveTcp } from './test-servers.ts';

const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT', 'latin1'), Buffer.of(0, 3)]);

/** The answer to an option of NBD's. */
function answer(option: number, type: number, length = 0): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeBigUInt64BE(0x3e889045565a9n, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(length, 16);
  return bytes;
}

let authority: TestIdentity;
let server: TestIdentity;

before(async () => {
  authority = await makeTestCertificate({ subject: 'CN=CA', ca: true });
  server = await makeTestCertificate({
    subject: 'CN=host',
    issuer: authority,
    names: [{ kind: 'ip', value: '127.0.0.1' }],
  });
});

/** A server that says these bytes where NBD has its greeting and its answer to STARTTLS, and then speaks TLS. */
async function serveNbd(t: TestContext, greeting: Uint8Array, reply: Uint8Array) {
  let asked = Buffer.alloc(0);
  const port = await serveTcp(t, (socket: Socket) => {
    socket.write(greeting);
    socket.once('data', (bytes) => {
      asked = Buffer.from(bytes);
      socket.write(reply);
      const tls = new TLSSocket(socket, { isServer: true, cert: server.pem, key: server.keyPem });
      tls.on('error', () => {});
    });
  });
  return { port, asked: () => asked };
}

const probe = (port: number, more: { serverName?: string; trust?: string } = {}) =>
  probeNbd({
    host: '127.0.0.1',
    port,
    serverName: '127.0.0.1',
    trust: authority.pem,
    clock: systemClock,
    checker: { program: 'qemu', version: '7.2.22' },
    timeoutMs: 60_000,
    ...more,
  });

describe('a probe of TLS behind NBD', () => {
  it('asks for TLS and for nothing else, and sees what is served', async (t) => {
    const { port, asked } = await serveNbd(t, GREETING, answer(5, 1));
    const evidence = await probe(port);
    assert.equal(evidence.servedCertificate.pin, server.certificate.pin);
    assert.equal(asked().toString('hex'), '00000003' + '49484156454f5054' + '00000005' + '00000000');
  });

  for (const [what, greeting, reply, code, words] of [
    ['speaks something else', Buffer.alloc(18), answer(5, 1), 'probe.handshake', /does not speak NBD/],
    ['has no TLS', GREETING, answer(5, 0x8000_0001), 'probe.handshake', /has no TLS/],
    ['answers to what was not asked', GREETING, answer(6, 1), 'probe.handshake', /does not answer as NBD/],
    [
      'says more than it may before TLS',
      GREETING,
      Buffer.concat([answer(5, 1), Buffer.of(0)]),
      'probe.handshake',
      /more than NBD lets it/,
    ],
  ] as const)
    it(`refuses a server that ${what}`, async (t) => {
      const { port } = await serveNbd(t, greeting, reply);
      await assert.rejects(probe(port), (error) => isTrustError(error, code) && words.test(error.message));
    });

  it('refuses another name and another authority, each by its own code', async (t) => {
    const { port } = await serveNbd(t, GREETING, answer(5, 1));
    await assert.rejects(probe(port, { serverName: '192.0.2.1' }), (error) =>
      isTrustError(error, 'probe.name'),
    );
    const other = await makeTestCertificate({ subject: 'CN=CA', ca: true });
    await assert.rejects(probe(port, { trust: other.pem }), (error) => isTrustError(error, 'probe.chain'));
  });
});
