import assert from 'node:assert/strict';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createTcpServer, type Server } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createServer, type TlsOptions } from 'node:tls';
import type { Instant } from '@virt-trust/base/instant.ts';
import { ALPN_MANAGER_TO_AGENT } from './alpn.ts';
import { dialChannel } from './dial.ts';
import { identityOf, madeUpPin, startAgent } from './fixtures.ts';
import { PinSet } from './pins.ts';

async function listen(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

/** The time of whatever has a limit passes when the test says so. */
function timeLimits(t: TestContext): () => void {
  const limit = new AbortController();
  t.mock.method(AbortSignal, 'timeout', () => limit.signal);
  return () => limit.abort();
}

/** Something else than our agent that answers there; keeps each decrypted byte that the manager sends. */
async function startImpostor(t: TestContext, options: TlsOptions = {}) {
  const identity = identityOf('agent');
  const received: Buffer[] = [];
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  const server = createServer({
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN_MANAGER_TO_AGENT],
    ...options,
  });
  server.on('secureConnection', (socket) => {
    if (server.listenerCount('secureConnection') > 1) return;
    socket.on('data', (part: Buffer) => received.push(part));
    socket.on('error', () => {});
    socket.once('close', () => resolve());
  });
  server.on('tlsClientError', () => resolve());
  const port = await listen(t, server);
  return {
    server,
    closed,
    received,
    target: {
      identity: identityOf('manager'),
      trustedAgentPins: identity.asPinSet(),
      host: '127.0.0.1',
      port,
      timeoutMs: 60_000,
    },
  };
}

test('between two of ours the group is the hybrid post-quantum X25519MLKEM768', async (t) => {
  const { target, agent } = await startAgent(t);
  const session = await dialChannel({ ...target, timeoutMs: 60_000 });
  assert.equal(session.group, 'X25519MLKEM768');
  assert.equal(session.protocol, 'TLSv1.3');
  assert.equal(session.peerPin, agent.pin);
  assert.equal(session.http2.remoteSettings.maxConcurrentStreams, 100);
  await session.close();
});

test('an agent without the hybrid group is reached by a classical one, and that is reported', async (t) => {
  const impostor = await startImpostor(t, { ecdhCurve: 'P-256' });
  const http2 = createHttp2Server();
  t.after(() => http2.close());
  impostor.server.on('secureConnection', (socket) => http2.emit('connection', socket));
  const session = await dialChannel(impostor.target);
  assert.equal(session.group, 'prime256v1');
  await session.close();
});

test('an agent with another key is refused before one byte was sent to it', async (t) => {
  const { target, closed, received } = await startImpostor(t);
  const trustedAgentPins = new PinSet('agent', [madeUpPin('the agent')]);
  await assert.rejects(dialChannel({ ...target, trustedAgentPins }), { code: 'channel.peer_untrusted' });
  await closed;
  assert.equal(Buffer.concat(received).length, 0);
});

test("a manager's key is not accepted as an agent's", async (t) => {
  const otherManager = identityOf('manager');
  const { target, closed, received } = await startImpostor(t, {
    cert: otherManager.certificatePem,
    key: otherManager.privateKeyPem,
  });
  await assert.rejects(dialChannel(target), { code: 'channel.peer_untrusted' });
  await closed;
  assert.equal(Buffer.concat(received).length, 0);
});

test("a manager that is told to trust its own key as an agent's does not dial", async (t) => {
  const { target } = await startAgent(t);
  const trustedAgentPins = new PinSet('agent', [target.identity.pin]);
  await assert.rejects(dialChannel({ ...target, trustedAgentPins, timeoutMs: 60_000 }), {
    code: 'channel.pin_role',
  });
});

test('RFC 5280 §4.1.2.5: an expired and a not yet valid wrapper of the agent are accepted', async (t) => {
  for (const dates of [{ notAfter: 1000 as Instant }, { notBefore: Date.UTC(2090, 0, 1) as Instant }]) {
    const identity = identityOf('agent', dates);
    const { target } = await startAgent(t, { identity: () => identity });
    const session = await dialChannel({
      ...target,
      trustedAgentPins: identity.asPinSet(),
      timeoutMs: 60_000,
    });
    await session.close();
  }
});

test('RFC 8446 §4.2.1: an agent that speaks TLS 1.2 only is refused', async (t) => {
  const { target, closed, received } = await startImpostor(t, { maxVersion: 'TLSv1.2' });
  await assert.rejects(dialChannel(target), { code: 'channel.handshake', message: /TLS 1.3/ });
  await closed;
  assert.equal(received.length, 0);
});

test('RFC 7301 §3.2: an agent that chooses no ALPN name is refused although its pin is trusted', async (t) => {
  const { target, closed, received } = await startImpostor(t, { ALPNProtocols: [] });
  await assert.rejects(dialChannel(target), { code: 'channel.peer_untrusted', message: /alpn/ });
  await closed;
  assert.equal(Buffer.concat(received).length, 0);
});

test('an agent that does not trust the manager is told from one that is away', async (t) => {
  const { target } = await startAgent(t);
  const stranger = identityOf('manager');
  await assert.rejects(dialChannel({ ...target, identity: stranger, timeoutMs: 60_000 }), {
    code: 'channel.peer_refused',
  });
  const server = createTcpServer();
  const port = await listen(t, server);
  await new Promise((resolve) => server.close(resolve));
  await assert.rejects(dialChannel({ ...target, port, timeoutMs: 60_000 }), { code: 'channel.unreachable' });
});

test('RFC 9113 §3.4: a channel does not count as up before the settings of the agent have arrived', async (t) => {
  // It finishes the handshake with the right key and says nothing.
  const { server, target } = await startImpostor(t);
  const passTime = timeLimits(t);
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    passTime();
  });
  await assert.rejects(dialChannel({ ...target, timeoutMs: 200 }), {
    code: 'channel.timeout',
    context: { host: '127.0.0.1', port: target.port, timeoutMs: 200, phase: 'settings' },
  });
});

test('a port that accepts and says nothing ends in a timeout that names the phase', async (t) => {
  const passTime = timeLimits(t);
  const port = await listen(
    t,
    createTcpServer((socket) => {
      t.after(() => socket.destroy());
      socket.on('error', () => {}).once('data', passTime);
    }),
  );
  const { target } = await startAgent(t);
  await assert.rejects(dialChannel({ ...target, port, timeoutMs: 200 }), {
    code: 'channel.timeout',
    context: { host: '127.0.0.1', port, timeoutMs: 200, phase: 'tls' },
  });
});

test('a dial that is no longer wanted ends with the reason of the signal', async (t) => {
  const port = await listen(
    t,
    createTcpServer((socket) => t.after(() => socket.destroy())),
  );
  const { target } = await startAgent(t);
  const stop = new AbortController();
  const dialled = dialChannel({ ...target, port, timeoutMs: 60_000, signal: stop.signal });
  stop.abort(new Error('the host was removed'));
  await assert.rejects(dialled, /the host was removed/);
});

test('RFC 9113 §3.4: a trusted agent that does not speak HTTP/2 ends the dial with an error', async (t) => {
  const { server, target } = await startImpostor(t);
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
  });
  await assert.rejects(dialChannel(target), { code: 'channel.peer_refused' });
});

test('no host name is sent to the agent in the clear', async (t) => {
  const { server, target } = await startImpostor(t);
  const named = new Promise((resolve) => {
    server.on('secureConnection', (socket) => {
      resolve(socket.servername);
      socket.destroy();
    });
  });
  await assert.rejects(dialChannel({ ...target, host: 'localhost' }), { code: 'channel.peer_refused' });
  assert.equal(await named, false);
});

test('bytes that are no TLS end the dial with an error', async (t) => {
  const port = await listen(
    t,
    createTcpServer((socket) => socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.2\r\n')),
  );
  const { target } = await startAgent(t);
  await assert.rejects(dialChannel({ ...target, port, timeoutMs: 60_000 }), { code: 'channel.handshake' });
});
