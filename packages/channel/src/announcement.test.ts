import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type ConnectionOptions, connect } from 'node:tls';
import fc from 'fast-check';
import { ALPN_ANNOUNCEMENT, ALPN_MANAGER_TO_AGENT } from './alpn.ts';
import { announce, encodeAnswer, parseAnswer } from './announcement.ts';
import {
  type Announcement,
  type AnnouncementListenOptions,
  listenForAnnouncements,
} from './announcement-listener.ts';
import { dialChannel } from './dial.ts';
import { identityOf, ManualSleep, startAgent } from './fixtures.ts';
import type { ChannelIdentity } from './identity.ts';
import { PinSet } from './pins.ts';

/** A manager on loopback that knows one agent. */
async function managerThatListens(t: TestContext, options: Partial<AnnouncementListenOptions> = {}) {
  const manager = identityOf('manager');
  const agent = identityOf('agent');
  const own = { identity: manager, agents: agent.asPinSet() };
  const heard: Announcement[] = [];
  const refusals: string[] = [];
  const waiting: (() => void)[] = [];
  const listener = await listenForAnnouncements({
    identity: () => own.identity,
    trustedAgents: () => own.agents,
    host: '127.0.0.1',
    port: 0,
    onAnnounced: async (announcement) => {
      heard.push(announcement);
      return ['192.0.2.7'];
    },
    onRefused: () => {},
    onCounted: (kind) => {
      refusals.push(kind);
      for (const wake of waiting.splice(0)) wake();
    },
    perAddressPerMinute: 1000,
    ...options,
  });
  t.after(() => listener.close());
  return {
    manager,
    agent,
    own,
    heard,
    refusals,
    port: listener.address.port,
    nextRefusal: () => new Promise<void>((resolve) => waiting.push(resolve)),
    announce: (identity: ChannelIdentity<'agent'> = agent, trusted: PinSet<'manager'> = manager.asPinSet()) =>
      announce({
        identity,
        trustedManagers: trusted,
        host: '127.0.0.1',
        port: listener.address.port,
        timeoutMs: 60_000,
      }),
  };
}

/** Whatever a stranger does; resolves with what was answered. */
async function attack(port: number, options: ConnectionOptions): Promise<Buffer> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN_ANNOUNCEMENT],
    ...options,
  });
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(parts);
}

test('an agent is heard under its key and address, and learns from where it will be dialled', async (t) => {
  const side = await managerThatListens(t);
  const answer = await side.announce();
  assert.deepEqual(answer, { managerPin: side.manager.pin, dialsFrom: ['192.0.2.7', '127.0.0.1'] });
  assert.deepEqual(side.heard, [
    { agentPin: side.agent.pin, remoteAddress: '127.0.0.1', localAddress: '127.0.0.1' },
  ]);
});

test('a machine whose key is unknown, and one without a key, get nothing and are counted', async (t) => {
  const side = await managerThatListens(t);
  await assert.rejects(side.announce(identityOf('agent')), { code: 'announcement.refused' });
  assert.equal((await attack(side.port, {})).length, 0);
  assert.deepEqual(side.refusals, ['untrusted-pin', 'no-certificate']);
  assert.deepEqual(side.heard, []);
});

test("a manager's key is nothing at the door for agents, not even where a host is recorded under it", async (t) => {
  const side = await managerThatListens(t);
  const asClient = { cert: side.manager.certificatePem, key: side.manager.privateKeyPem };
  assert.equal((await attack(side.port, asClient)).length, 0);
  side.own.agents = new PinSet('agent', [side.manager.pin]);
  assert.equal((await attack(side.port, asClient)).length, 0);
  assert.deepEqual(side.refusals, ['untrusted-pin', 'internal']);
  assert.deepEqual(side.heard, []);
});

test('an agent says nothing to somebody who is none of its managers', async (t) => {
  const side = await managerThatListens(t);
  await assert.rejects(side.announce(side.agent, identityOf('manager').asPinSet()), {
    code: 'announcement.untrusted',
  });
  await assert.rejects(side.announce(side.agent, new PinSet('manager', [side.agent.pin])), {
    code: 'channel.pin_role',
  });
});

test("RFC 7301 §3.2: an announcement is no channel and a channel's dial no announcement", async (t) => {
  const side = await managerThatListens(t);
  const key = { cert: side.agent.certificatePem, key: side.agent.privateKeyPem };
  assert.equal((await attack(side.port, { ...key, ALPNProtocols: [ALPN_MANAGER_TO_AGENT] })).length, 0);
  assert.equal((await attack(side.port, { ...key, ALPNProtocols: [] })).length, 0);
  assert.deepEqual(side.heard, []);
  const served = await startAgent(t);
  await assert.rejects(
    announce({
      identity: identityOf('agent'),
      trustedManagers: new PinSet('manager', [served.manager.pin]),
      host: '127.0.0.1',
      port: served.target.port,
      timeoutMs: 60_000,
    }),
    { code: 'announcement.unreachable' },
  );
  await assert.rejects(
    dialChannel({
      identity: side.manager,
      trustedAgentPins: side.agent.asPinSet(),
      host: '127.0.0.1',
      port: side.port,
      timeoutMs: 60_000,
    }),
    { code: 'channel.handshake' },
  );
});

test('RFC 8446 §8: bytes that were recorded and are sent again announce nobody', async (t) => {
  const side = await managerThatListens(t);
  const recorded: Buffer[] = [];
  const tap = createServer((near) => {
    const far = connectTcp(side.port, '127.0.0.1');
    near.on('data', (part: Buffer) => recorded.push(part));
    for (const end of [near, far]) end.on('error', () => {});
    near.pipe(far);
    far.pipe(near);
  });
  await new Promise<void>((resolve) => tap.listen(0, '127.0.0.1', resolve));
  t.after(() => tap.close());
  const { port } = tap.address() as { port: number };
  await announce({
    identity: side.agent,
    trustedManagers: side.manager.asPinSet(),
    host: '127.0.0.1',
    port,
    timeoutMs: 60_000,
  });
  assert.equal(side.heard.length, 1);
  const replay = connectTcp(side.port, '127.0.0.1');
  replay.on('error', () => {});
  replay.resume();
  const refused = side.nextRefusal();
  replay.write(Buffer.concat(recorded));
  await refused;
  assert.equal(side.heard.length, 1);
});

test('a handshake that is not finished by its deadline is dropped, however it drips', async (t) => {
  const time = new ManualSleep();
  const side = await managerThatListens(t, { sleep: time.sleep, handshakeMs: 5000 });
  const socket = connectTcp(side.port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  await once(socket, 'connect');
  for (const byte of [0x16, 0x03, 0x01]) socket.write(Uint8Array.of(byte));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await time.wake(5000);
  await closed;
  assert.deepEqual(side.refusals, ['handshake-timeout']);
});

test('connections that only hold a place are dropped, oldest first, and an agent is heard all the same', async (t) => {
  const side = await managerThatListens(t, { maxPendingHandshakes: 4 });
  const held = Array.from({ length: 30 }, () => connectTcp(side.port, '127.0.0.1'));
  for (const socket of held) {
    socket.on('error', () => {});
    t.after(() => socket.destroy());
  }
  await Promise.all(held.map((socket) => once(socket, 'connect')));
  await side.announce();
  assert.equal(side.heard.length, 1);
});

test('an address that proves nothing again and again is turned away before any handshake', async (t) => {
  const side = await managerThatListens(t, {
    perAddressPerMinute: 12,
    clock: { now: () => 1e12 as never },
  });
  const stranger = identityOf('agent');
  for (let count = 0; count < 6; count++) await assert.rejects(side.announce(stranger));
  assert.deepEqual(side.refusals, [
    'untrusted-pin',
    'untrusted-pin',
    'untrusted-pin',
    'too-often',
    'too-often',
    'too-often',
  ]);
});

test("the manager's key is rolled over without a new listener", async (t) => {
  const side = await managerThatListens(t);
  const next = identityOf('manager');
  side.own.identity = next;
  assert.equal((await side.announce(side.agent, next.asPinSet())).managerPin, next.pin);
});

test('what a manager answers is read within bounds, and addresses alone are taken', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
      const addresses = parseAnswer(bytes);
      return addresses.length <= 8 && addresses.every((address) => /^[0-9a-f.:]{2,45}$/.test(address));
    }),
  );
  fc.assert(
    fc.property(fc.uniqueArray(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 8 }), (addresses) => {
      const read = parseAnswer(Buffer.from(encodeAnswer(addresses)));
      return parseAnswer(Buffer.from(encodeAnswer(read))).join() === read.join();
    }),
  );
  assert.deepEqual(parseAnswer(Buffer.from('192.0.2.1\n2001:DB8::1\n::ffff:192.0.2.1\nhost\n192.0.2.')), [
    '192.0.2.1',
    '2001:db8::1',
  ]);
});
