import assert from 'node:assert/strict';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { test } from 'node:test';
import { type ConnectionOptions, connect, createServer, type TLSSocket } from 'node:tls';
import type { Instant } from '@virt-trust/base/instant.ts';
import { type Admission, admitPeer } from './admission.ts';
import { ALPN_MANAGER_TO_AGENT } from './alpn.ts';
import { dialChannel } from './dial.ts';
import { attackPort, identityOf, ManualSleep, madeUpPin, startAgent, type TestAgent } from './fixtures.ts';
import type { ChannelIdentity } from './identity.ts';
import { PinSet } from './pins.ts';

function attack(agent: TestAgent, identity: ChannelIdentity | undefined, options: ConnectionOptions = {}) {
  return attackPort(agent.target.port, identity, { ALPNProtocols: [ALPN_MANAGER_TO_AGENT], ...options });
}

function dial(agent: TestAgent, change: Partial<TestAgent['target']> = {}) {
  return dialChannel({ ...agent.target, ...change, timeoutMs: 60_000 });
}

/** Nobody was served and not one application byte went out. */
function assertNothingLeaked(agent: TestAgent, bytes: Buffer): void {
  assert.equal(bytes.length, 0);
  assert.deepEqual(agent.asked, []);
}

test('a manager whose pin is trusted is served, and the handler knows who it is', async (t) => {
  const agent = await startAgent(t, {
    handler: (request, response) => response.end(`${agent.listener.peerOf(request.stream.session)}`),
  });
  const session = await dial(agent);
  t.after(() => session.http2.destroy());
  const stream = session.http2.request({ ':path': '/' }).setEncoding('utf8');
  let body = '';
  for await (const part of stream) body += part;
  assert.equal(body, agent.manager.pin);
});

test('a manager with another key is refused and sees not one application byte', async (t) => {
  const agent = await startAgent(t);
  const stranger = identityOf('manager');
  const refusal = agent.nextRefusal();
  const { bytes } = await attack(agent, stranger);
  assertNothingLeaked(agent, bytes);
  assert.deepEqual((await refusal).reason, { kind: 'untrusted-pin', pin: stranger.pin });
});

test('another key under a copied subject is refused', async (t) => {
  const agent = await startAgent(t);
  const known = identityOf('manager', { subject: 'the manager' });
  agent.own.managers = known.asPinSet();
  const forged = identityOf('manager', { subject: 'the manager' });
  const { bytes } = await attack(agent, forged);
  assertNothingLeaked(agent, bytes);
  const session = await dial(agent, { identity: known });
  await session.close();
});

test("an agent's key is not accepted as a manager's", async (t) => {
  const agent = await startAgent(t);
  const otherAgent = identityOf('agent');
  const refusal = agent.nextRefusal();
  const { bytes } = await attack(agent, otherAgent);
  assertNothingLeaked(agent, bytes);
  assert.equal((await refusal).reason.kind, 'untrusted-pin');
  const itself = agent.nextRefusal();
  await attack(agent, agent.agent);
  assert.equal((await itself).reason.kind, 'untrusted-pin');
});

test("an agent that is told to trust its own key as a manager's does not start", async (t) => {
  const agent = await startAgent(t);
  agent.own.managers = new PinSet('manager', [agent.agent.pin]);
  assert.throws(() => agent.listener.refresh(), { code: 'channel.pin_role' });
  await assert.rejects(
    startAgent(t, { identity: () => agent.agent, trustedPeers: () => agent.own.managers }),
    { code: 'channel.pin_role' },
  );
});

test('a client without a certificate is refused', async (t) => {
  const agent = await startAgent(t);
  const refusal = agent.nextRefusal();
  const { bytes } = await attack(agent, undefined);
  assertNothingLeaked(agent, bytes);
  assert.deepEqual((await refusal).reason, { kind: 'no-certificate' });
});

test('RFC 5280 §4.1.2.5: an expired and a not yet valid wrapper are accepted', async (t) => {
  const agent = await startAgent(t);
  const day = 86_400_000;
  const expired = identityOf('manager', { notBefore: 0 as Instant, notAfter: day as Instant });
  const early = identityOf('manager', { notBefore: (Date.UTC(2090, 0, 1) + day) as Instant });
  agent.own.managers = new PinSet('manager', [expired.pin, early.pin]);
  for (const identity of [expired, early]) {
    const session = await dial(agent, { identity });
    assert.equal(session.peerPin, agent.agent.pin);
    await session.close();
  }
});

test('RFC 8446 §4.2.1: a client that speaks TLS 1.2 only is refused in the handshake', async (t) => {
  const agent = await startAgent(t);
  const refusal = agent.nextRefusal();
  const { bytes, error } = await attack(agent, agent.manager, {
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.2',
  });
  assertNothingLeaked(agent, bytes);
  assert.match(error?.message ?? '', /alert protocol version/);
  assert.equal((await refusal).reason.kind, 'handshake');
});

test('RFC 7301 §3.2: a client with another ALPN name, or none, is refused', async (t) => {
  const agent = await startAgent(t);
  for (const ALPNProtocols of [
    ['h2'],
    ['virt-trust/agent-to-manager/1'],
    ['virt-trust/manager-to-agent/2'],
  ]) {
    const { bytes, error } = await attack(agent, agent.manager, { ALPNProtocols });
    assertNothingLeaked(agent, bytes);
    assert.match(error?.message ?? '', /alert no application protocol/);
  }
  const refusal = agent.nextRefusal();
  const { bytes } = await attack(agent, agent.manager, { ALPNProtocols: [] });
  assertNothingLeaked(agent, bytes);
  assert.deepEqual((await refusal).reason, { kind: 'alpn', alpn: undefined });
});

test('RFC 8446 §4.6.1: a ticket that is presented yields a full handshake', async (t) => {
  const agent = await startAgent(t);
  const open = (session?: Buffer): TLSSocket => {
    const { manager, target } = agent;
    const socket = connect({
      host: target.host,
      port: target.port,
      cert: manager.certificatePem,
      key: manager.privateKeyPem,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN_MANAGER_TO_AGENT],
      ...(session === undefined ? {} : { session }),
    });
    t.after(() => socket.destroy());
    // Tickets are read with the first application bytes.
    socket.resume();
    return socket;
  };
  const ticket = await new Promise<Buffer>((resolve) => open().once('session', resolve));
  const second = open(ticket);
  // The agent's SETTINGS are there: it was let in, by a handshake of its own.
  await new Promise((resolve) => second.once('data', resolve));
  assert.equal(second.isSessionReused(), false);
  assert.ok(second.getPeerX509Certificate());
  // The same ticket without the certificate proves nothing.
  const refusal = agent.nextRefusal();
  const { bytes } = await attack(agent, undefined, { session: ticket });
  assert.equal(bytes.length, 0);
  assert.deepEqual((await refusal).reason, { kind: 'no-certificate' });
});

test('RFC 8446 §2.2: a session that was resumed is refused where a TLS server allows it', async (t) => {
  const manager = identityOf('manager');
  const agent = identityOf('agent');
  const outcomes: Admission[] = [];
  const server = createServer(
    {
      cert: agent.certificatePem,
      key: agent.privateKeyPem,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN_MANAGER_TO_AGENT],
    },
    (socket) => {
      outcomes.push(admitPeer(socket, ALPN_MANAGER_TO_AGENT, manager.asPinSet()));
      socket.end('bye');
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const visit = async (session?: Buffer): Promise<{ socket: TLSSocket; ticket: Buffer | undefined }> => {
    const { port } = server.address() as { port: number };
    const socket = connect({
      port,
      host: '127.0.0.1',
      cert: manager.certificatePem,
      key: manager.privateKeyPem,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN_MANAGER_TO_AGENT],
      ...(session === undefined ? {} : { session }),
    });
    let ticket: Buffer | undefined;
    socket.on('session', (issued) => {
      ticket = issued;
    });
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
    return { socket, ticket };
  };
  const first = await visit();
  assert.ok(first.ticket);
  await visit(first.ticket);
  assert.deepEqual(outcomes, [
    { kind: 'admitted', pin: manager.pin },
    { kind: 'refused', refusal: { kind: 'resumed' } },
  ]);
});

test('RFC 8446 §4.2.1: a TLS 1.2 handshake is refused even where a TLS server allows it', async (t) => {
  const manager = identityOf('manager');
  const agent = identityOf('agent');
  const options = { rejectUnauthorized: false, ALPNProtocols: [ALPN_MANAGER_TO_AGENT] };
  const { promise: outcome, resolve } = Promise.withResolvers<Admission>();
  const server = createServer(
    { ...options, cert: agent.certificatePem, key: agent.privateKeyPem, requestCert: true },
    (socket) => {
      resolve(admitPeer(socket, ALPN_MANAGER_TO_AGENT, manager.asPinSet()));
      socket.destroy();
    },
  );
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const keys = { cert: manager.certificatePem, key: manager.privateKeyPem };
  connect({ ...options, ...keys, port, host: '127.0.0.1', maxVersion: 'TLSv1.2' }).on('error', () => {});
  assert.deepEqual(await outcome, { kind: 'refused', refusal: { kind: 'protocol', protocol: 'TLSv1.2' } });
});

test('several managers are trusted at one time, and one that is dropped loses its session at once', async (t) => {
  const agent = await startAgent(t);
  const second = identityOf('manager');
  agent.own.managers = new PinSet('manager', [madeUpPin('spare'), second.pin, agent.manager.pin]);
  const kept = await dial(agent);
  const dropped = await dial(agent, { identity: second });
  t.after(() => kept.http2.destroy());
  agent.own.managers = agent.manager.asPinSet();
  const closed = new Promise((resolve) => dropped.http2.once('close', resolve));
  agent.listener.refresh();
  await closed;
  await new Promise<void>((resolve, reject) =>
    kept.http2.ping((error) => (error ? reject(error) : resolve())),
  );
});

test('a handshake that is not finished by its deadline is dropped, however it drips', async (t) => {
  const time = new ManualSleep();
  const agent = await startAgent(t, { sleep: time.sleep, handshakeMs: 7_777 });
  const socket = connectTcp(agent.target.port, '127.0.0.1');
  socket.on('error', () => {});
  // The beginning of a TLS record that never goes on.
  socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02]));
  const refusal = agent.nextRefusal();
  await time.wake(7_777);
  await new Promise((resolve) => socket.once('close', resolve));
  assert.deepEqual((await refusal).reason, { kind: 'handshake-timeout' });
  const session = await dial(agent);
  await session.close();
});

test('connections that only hold a place are dropped, oldest first, so that a manager gets in', async (t) => {
  const agent = await startAgent(t, { maxPendingHandshakes: 3 });
  const idle = [];
  for (let count = 0; count < 3; count++) {
    const socket = connectTcp(agent.target.port, '127.0.0.1');
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    await new Promise((resolve) => socket.once('connect', resolve));
    idle.push(new Promise((resolve) => socket.once('close', resolve)));
  }
  const session = await dial(agent);
  await idle[0];
  assert.deepEqual(
    agent.refusals.map(({ reason }) => reason),
    [{ kind: 'crowded-out' }],
  );
  await session.close();
});

test('an agent that cannot tell whom it trusts refuses everybody and goes on', async (t) => {
  let broken = false;
  const manager = identityOf('manager');
  const agent = await startAgent(t, {
    trustedPeers: () => {
      if (broken) throw new Error('disk on fire');
      return manager.asPinSet();
    },
  });
  broken = true;
  const refusal = agent.nextRefusal();
  const { bytes } = await attack(agent, manager);
  assertNothingLeaked(agent, bytes);
  assert.deepEqual((await refusal).reason, { kind: 'internal', detail: 'disk on fire' });
  broken = false;
  await (await dial(agent, { identity: manager })).close();
});

test('a port that is taken is reported with its number', async (t) => {
  const taken = createTcpServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.after(() => taken.close());
  const { port } = taken.address() as { port: number };
  await assert.rejects(startAgent(t, { port }), {
    code: 'channel.cannot_listen',
    message: new RegExp(`${port}`),
  });
});
