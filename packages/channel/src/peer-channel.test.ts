import assert from 'node:assert/strict';
import { createServer } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { type TestContext, test } from 'node:test';
import { connect } from 'node:tls';
import type { Instant } from '@virt-trust/base/instant.ts';
import { AddressRate } from './address-rate.ts';
import {
  ALPN_AGENT_TO_AGENT,
  ALPN_ANNOUNCEMENT,
  ALPN_MANAGER_TO_AGENT,
  ALPN_MIGRATION_RPC,
  ALPN_MIGRATION_STREAM,
} from './alpn.ts';
import { dialChannel } from './dial.ts';
import { attackPort, identityOf, startAgent } from './fixtures.ts';
import { channelServerOptions } from './http2-limits.ts';
import type { ChannelIdentity } from './identity.ts';
import { type ListenOptions, listenChannel } from './listener.ts';
import { PinSet } from './pins.ts';
import type { Refusal } from './refusals.ts';

/** An agent's door for other agents, which lets one in. */
async function startPeerDoor(t: TestContext, options: Partial<ListenOptions<'agent'>> = {}) {
  const agent = identityOf('agent');
  const peer = identityOf('agent');
  const own = { peers: peer.asPinSet() };
  const asked: string[] = [];
  const refusals: Refusal[] = [];
  const server = createServer(channelServerOptions(), (request, response) => {
    asked.push(`${request.url} ${listener.peerOf(request.stream.session)}`);
    response.end('served');
  });
  const listener = await listenChannel({
    identity: () => agent,
    diallers: 'agent',
    trustedPeers: () => own.peers,
    host: '127.0.0.1',
    port: 0,
    server,
    onRefused: (refusal) => refusals.push(refusal),
    ...options,
  });
  t.after(() => listener.close(AbortSignal.abort()));
  const { port } = listener.address;
  return {
    agent,
    peer,
    own,
    port,
    asked,
    refusals,
    listener,
    dial: (identity: ChannelIdentity = peer) =>
      dialChannel({
        identity,
        trustedAgentPins: agent.asPinSet(),
        host: '127.0.0.1',
        port,
        timeoutMs: 60_000,
      }),
    /** A handshake with that key under that name; the bytes that it brought. */
    async attack(identity: ChannelIdentity | undefined, alpn: string | null = ALPN_AGENT_TO_AGENT) {
      const { bytes, error } = await attackPort(port, identity, {
        ALPNProtocols: alpn === null ? [] : [alpn],
      });
      assert.equal(bytes.length, 0, 'not one application byte went out');
      assert.deepEqual(asked, []);
      return error;
    },
  };
}

test('an agent whose pin is trusted is served by another, and each knows who the other is', async (t) => {
  const door = await startPeerDoor(t);
  const session = await door.dial();
  t.after(() => session.destroy());
  assert.equal(session.peerPin, door.agent.pin);
  const stream = session.http2.request({ ':path': '/x' }).resume();
  await new Promise((resolve) => stream.once('close', resolve));
  assert.deepEqual(door.asked, [`/x ${door.peer.pin}`]);
});

test("a manager's key opens no door that is for agents, under either name", async (t) => {
  const door = await startPeerDoor(t);
  const manager = identityOf('manager');
  await assert.rejects(door.dial(manager), { code: 'channel.handshake' });
  assert.match((await door.attack(manager, ALPN_MANAGER_TO_AGENT))?.message ?? '', /no application protocol/);
  await door.attack(manager);
  assert.deepEqual(door.refusals.at(-1)?.reason, { kind: 'untrusted-pin', pin: manager.pin });
});

test("an agent's key opens no door that is for managers, under either name", async (t) => {
  const agent = await startAgent(t);
  const other = identityOf('agent');
  const dialled = dialChannel({ ...agent.target, identity: other, timeoutMs: 60_000 });
  await assert.rejects(dialled, { code: 'channel.handshake' });
  for (const alpn of [ALPN_AGENT_TO_AGENT, ALPN_MANAGER_TO_AGENT]) {
    const { bytes } = await attackPort(agent.target.port, other, { ALPNProtocols: [alpn] });
    assert.equal(bytes.length, 0);
  }
  assert.deepEqual(agent.asked, []);
  assert.deepEqual(agent.refusals.at(-1)?.reason, { kind: 'untrusted-pin', pin: other.pin });
});

test("a manager does not dial an agent by a pin that is the manager's own", async () => {
  const manager = identityOf('manager');
  const trustedAgentPins = new PinSet('agent', [manager.pin]);
  const dialled = dialChannel({
    identity: manager,
    trustedAgentPins,
    host: '127.0.0.1',
    port: 1,
    timeoutMs: 1,
  });
  await assert.rejects(dialled, { code: 'channel.pin_role' });
});

test('RFC 7301 §3.2: a peer with the name of another door or stream, or none, is refused', async (t) => {
  const door = await startPeerDoor(t);
  for (const alpn of [ALPN_MIGRATION_RPC, ALPN_MIGRATION_STREAM, ALPN_ANNOUNCEMENT, 'h2'])
    assert.match((await door.attack(door.peer, alpn))?.message ?? '', /no application protocol/);
  await door.attack(door.peer, null);
  assert.deepEqual(door.refusals.at(-1)?.reason, { kind: 'alpn', alpn: undefined });
});

test('one-way authentication there is none: a peer without a certificate is refused', async (t) => {
  const door = await startPeerDoor(t);
  await door.attack(undefined);
  assert.deepEqual(door.refusals.at(-1)?.reason, { kind: 'no-certificate' });
});

test('the dialling side verifies the other too: an agent with another key gets not one byte of a request', async (t) => {
  const door = await startPeerDoor(t);
  const stranger = identityOf('agent');
  await assert.rejects(
    dialChannel({
      identity: door.peer,
      trustedAgentPins: stranger.asPinSet(),
      host: '127.0.0.1',
      port: door.port,
      timeoutMs: 60_000,
    }),
    { code: 'channel.peer_untrusted' },
  );
  assert.deepEqual(door.asked, []);
});

test('RFC 8446 §2.2: a peer that resumes a session makes a full handshake, or is refused', async (t) => {
  const door = await startPeerDoor(t);
  const open = (session?: Buffer) => {
    const socket = connect({
      host: '127.0.0.1',
      port: door.port,
      cert: door.peer.certificatePem,
      key: door.peer.privateKeyPem,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN_AGENT_TO_AGENT],
      ...(session === undefined ? {} : { session }),
    });
    t.after(() => socket.destroy());
    return socket.resume();
  };
  const ticket = await new Promise<Buffer>((resolve) => open().once('session', resolve));
  const second = open(ticket);
  await new Promise((resolve) => second.once('data', resolve));
  assert.equal(second.isSessionReused(), false);
  const { bytes } = await attackPort(door.port, undefined, {
    ALPNProtocols: [ALPN_AGENT_TO_AGENT],
    session: ticket,
  });
  assert.equal(bytes.length, 0);
  assert.deepEqual(door.refusals.at(-1)?.reason, { kind: 'no-certificate' });
});

test('a peer from an address that was not granted is cut off before the handshake, whatever its key', async (t) => {
  const door = await startPeerDoor(t, { admitAddress: () => false });
  await assert.rejects(door.dial(), { category: 'unavailable' });
  assert.deepEqual(
    door.refusals.map(({ reason }) => reason),
    [{ kind: 'address' }],
  );
});

test('a peer loses its session at once when it is trusted no more', async (t) => {
  const door = await startPeerDoor(t);
  const session = await door.dial();
  const closed = new Promise((resolve) => session.http2.once('close', resolve));
  door.own.peers = new PinSet('agent', []);
  door.listener.refresh();
  await closed;
  await assert.rejects(door.dial(), { code: 'channel.peer_refused' });
});

test('a key has so many channels at a time and no more, and its next when one is closed', async (t) => {
  const door = await startPeerDoor(t, { maxChannelsPerPeer: () => 2 });
  const other = identityOf('agent');
  door.own.peers = new PinSet('agent', [door.peer.pin, other.pin]);
  const [first] = [await door.dial(), await door.dial()];
  await assert.rejects(door.dial(), { code: 'channel.peer_refused' });
  assert.deepEqual(door.refusals.at(-1)?.reason, { kind: 'too-many-channels', pin: door.peer.pin });
  const session = await door.dial(other);
  t.after(() => session.destroy());
  await first?.close();
  // The door hears of it in its own time.
  for (;;) {
    const again = await door.dial().catch(() => undefined);
    if (again !== undefined) break;
  }
});

test('an address that comes too often is cut off before the handshake, until it has been quiet', async (t) => {
  const time = { now: 1e12 };
  const clock = { now: () => time.now as Instant };
  const rate = new AddressRate({ clock, perMinute: 4, sharedOctets: 16 });
  const door = await startPeerDoor(t, { rate, clock });
  await door.attack(identityOf('agent'));
  await assert.rejects(door.dial(), { category: 'unavailable' });
  assert.deepEqual(
    door.refusals.map(({ reason }) => reason.kind),
    ['untrusted-pin', 'too-often'],
  );
  time.now += 60_000;
  await (await door.dial()).close();
});

test('IPv6 peers of one network each have a share of their own', () => {
  const rate = new AddressRate({ clock: { now: () => 1e12 as Instant }, perMinute: 2, sharedOctets: 16 });
  rate.spend('2001:db8::1', 2);
  assert.equal(rate.allows('2001:db8::1'), false);
  assert.equal(rate.allows('2001:db8::2'), true);
});

test('connections that only hold a place are dropped, oldest first, so that a peer gets in', async (t) => {
  const door = await startPeerDoor(t, { maxPendingHandshakes: 2 });
  const idle = [];
  for (let count = 0; count < 2; count++) {
    const socket = connectTcp(door.port, '127.0.0.1').on('error', () => {});
    t.after(() => socket.destroy());
    await new Promise((resolve) => socket.once('connect', resolve));
    idle.push(new Promise((resolve) => socket.once('close', resolve)));
  }
  const session = await door.dial();
  t.after(() => session.destroy());
  await idle[0];
  assert.deepEqual(door.refusals[0]?.reason, { kind: 'crowded-out' });
});
