import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { type TestContext, test } from 'node:test';
import { HOUR, type Instant } from '@virt-trust/base/instant.ts';
import { ALPN_AGENT_TO_AGENT } from '@virt-trust/channel/alpn.ts';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { dialChannel } from '@virt-trust/channel/dial.ts';
import { exchange } from '@virt-trust/channel/exchange.ts';
import { attackPort, identityOf } from '@virt-trust/channel/fixtures.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { deleteGrant, listGrants, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { listEvents, putManagers } from '@virt-trust/contract/agent/operations.ts';
import {
  peerCreateMigration,
  peerEndMigration,
  peerGetVmState,
  peerServeHandshake,
} from '@virt-trust/contract/agent/peer-operations.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import { clientOver, enrolledAgent } from '../fixtures.ts';
import { grantFor, grantingEngines, noHostCommands } from '../grants/fixtures.ts';
import { peerClient } from '../peers/peer-client.ts';

const XML = { xml: '<domain/>', persistentXml: null };

/** A host whose manager grants what the test says, and another host's key that may be stolen. */
async function grantingHost(t: TestContext, { clock }: { clock?: { now(): Instant } } = {}) {
  const host = await enrolledAgent(t, { mode: 'manage' });
  const asked: string[] = [];
  const agent = await host.start({
    engines: grantingEngines(asked),
    run: noHostCommands,
    peerPort: 0,
    ...(clock === undefined ? {} : { clock }),
  });
  const trustedAgentPins = new PinSet('agent', [host.agentPin]);
  const target = { trustedAgentPins, host: '127.0.0.1' };
  const connection = new ChannelConnection({
    target: { ...target, identity: host.manager, port: agent.channelPort },
  });
  t.after(() => connection.close());
  const manager = clientOver(connection);
  const peer = identityOf('agent');
  return {
    host,
    agent,
    asked,
    manager,
    peer,
    async give(change: Parameters<typeof grantFor>[1] & { readonly pin?: string } = {}) {
      const { pin = peer.pin, ...rest } = change;
      const grant = grantFor(pin, rest);
      const { port } = await manager.call(putGrant, { params: { id: grant.id }, body: grant });
      return { grant, port };
    },
    /** What the peer was given: where this host is, and its key. */
    clientAt(port: number, identity: ChannelIdentity<'agent'> = peer) {
      const reached = {
        name: 'host-a',
        pins: [host.agentPin],
        addresses: ['127.0.0.1'],
        reachedAt: ['127.0.0.1'],
      };
      const client = peerClient({ peer: { ...reached, port } }, () => identity);
      t.after(() => client.close());
      return client;
    },
    async channelTo(port: number, identity: ChannelIdentity = peer) {
      const session = await dialChannel({ ...target, identity, port, timeoutMs: 10_000 });
      t.after(() => session.destroy());
      return session.http2;
    },
    /** As soon as there are so many. */
    async refusedEvents(count: number) {
      for (;;) {
        const { events, last } = await manager.call(listEvents, {});
        const refused = events.filter(({ kind }) => kind === 'grant.refused');
        if (refused.length >= count) return refused;
        await manager.call(listEvents, { query: { after: last, wait: 5 } });
      }
    },
  };
}

/** Whether nobody listens there: a connection is refused by the kernel. */
function isClosed(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', () => resolve(true));
  });
}

const get = (http2: ClientHttp2Session, path: string, method = 'GET') =>
  exchange(http2, { method, path }, 65_536);

/** Resolves with the stream's code when it is over, one way or another. */
function over(stream: ClientHttp2Stream): Promise<number> {
  stream.resume().on('error', () => {});
  return new Promise((resolve) => stream.once('close', () => resolve(stream.rstCode)));
}

test('two agents exchange what their grants let them, and the door closes with the last grant', async (t) => {
  const a = await grantingHost(t);
  const b = await grantingHost(t);
  const id = randomUUID();
  const { manager: managerA } = a;
  const keyOf = async (one: typeof a) => one.host.agentPin;
  const onA = grantFor(await keyOf(b), { id, role: 'source', operations: ['status'] });
  const onB = grantFor(await keyOf(a), { id });
  const atA = await managerA.call(putGrant, { params: { id }, body: onA });
  const atB = await b.manager.call(putGrant, { params: { id }, body: onB });
  // Each is another agent to the other: by the key of its own that managers pin.
  const identityA = await identityOfHost(a);
  const identityB = await identityOfHost(b);
  const toB = clientOf(t, { port: atB.port, pin: b.host.agentPin }, identityA);
  const toA = clientOf(t, { port: atA.port, pin: a.host.agentPin }, identityB);
  assert.deepEqual(await toB.api.call(peerCreateMigration, { params: { id }, body: XML }), {
    relayPort: null,
  });
  assert.equal((await toB.api.call(peerGetVmState, { params: { id } })).state, 'running');
  assert.equal((await toA.api.call(peerGetVmState, { params: { id } })).state, 'running');
  assert.deepEqual(await toB.reach(), {
    address: '127.0.0.1',
    pin: b.host.agentPin,
    group: 'X25519MLKEM768',
  });
  await toB.api.call(peerEndMigration, { params: { id }, body: { outcome: 'done' } });
  assert.deepEqual(b.asked.slice(0, 3), [`create ${id}`, `vmState ${id}`, `end ${id}`]);
  await managerA.call(deleteGrant, { params: { id } });
  await b.manager.call(deleteGrant, { params: { id } });
  assert.deepEqual(await managerA.call(listGrants, {}), { grants: [] });
  assert.equal(await isClosed(atA.port), true);
  assert.equal(await isClosed(atB.port), true);
  assert.deepEqual(b.asked.slice(3), [`release ${id}`]);
});

test("the answer to a migration's end arrives before the channel goes, though the peer has other grants", async (t) => {
  const host = await grantingHost(t);
  const other = await host.give({ pin: identityOf('agent').pin });
  for (let round = 0; round < 10; round++) {
    const { grant, port } = await host.give();
    const client = host.clientAt(port);
    const params = { id: grant.id };
    assert.deepEqual(await client.api.call(peerEndMigration, { params, body: { outcome: 'done' } }), {});
    await assert.rejects(client.api.call(peerGetVmState, { params }));
  }
  assert.deepEqual(
    (await host.manager.call(listGrants, {})).grants.map(({ id }) => id),
    [other.grant.id],
  );
});

test('a stolen host key under one grant opens no other grant, and not more than was granted', async (t) => {
  const host = await grantingHost(t);
  const victim = await host.give({ pin: identityOf('agent').pin });
  const { grant, port } = await host.give({ operations: ['status'] });
  const { api } = host.clientAt(port);
  const denied = (code: string) => ({ code, category: 'denied' });
  const theirs = { id: victim.grant.id };
  await assert.rejects(api.call(peerGetVmState, { params: theirs }), denied('grant.none'));
  await assert.rejects(api.call(peerCreateMigration, { params: theirs, body: XML }), denied('grant.none'));
  const ended = api.call(peerEndMigration, { params: theirs, body: { outcome: 'done' } });
  await assert.rejects(ended, denied('grant.none'));
  await assert.rejects(api.call(peerGetVmState, { params: { id: randomUUID() } }), denied('grant.none'));
  const mine = { id: grant.id };
  await assert.rejects(
    api.call(peerCreateMigration, { params: mine, body: XML }),
    denied('grant.not_granted'),
  );
  const served = api.call(peerServeHandshake, { params: mine, body: { address: '127.0.0.1' } });
  await assert.rejects(served, denied('grant.not_granted'));
  assert.equal((await api.call(peerGetVmState, { params: mine })).state, 'running');
  assert.deepEqual(host.asked, [`vmState ${grant.id}`]);
  // Each was told of, with the key and what it wanted.
  const told = await host.refusedEvents(6);
  assert.ok(told.every(({ message }) => message.includes(host.peer.pin)));
});

test('nothing of the other doors is there for a peer', async (t) => {
  const host = await grantingHost(t);
  const { grant, port } = await host.give();
  const http2 = await host.channelTo(port);
  const paths = [
    ['GET', '/v1/status'],
    ['GET', '/v1/grants'],
    ['PUT', `/v1/grants/${grant.id}`],
    ['DELETE', `/v1/grants/${grant.id}`],
    ['PUT', '/v1/desired-state'],
    ['POST', '/v1/removal'],
    ['GET', `/v1/migrations/${grant.id}`],
    ['PUT', `/v1/peer/migrations/${grant.id}`],
    ['GET', `/v1/peer/migrations/${grant.id}/`],
    ['GET', `/v1/peer/../status`],
    ['GET', `//v1/peer/migrations/${grant.id}`],
    ['GET', `/V1/peer/migrations/${grant.id}`],
  ] as const;
  for (const [method, path] of paths) {
    const answer = await get(http2, path, method);
    assert.equal(answer.status, 404, `${method} ${path}`);
    assert.match(answer.body.toString(), /api\.no_such_operation/);
  }
  // Ids that are none reach no grant.
  for (const id of ['..%2f..%2fstatus', '%00', 'x'.repeat(90)])
    assert.equal((await get(http2, `/v1/peer/migrations/${id}`)).status, 403, id);
  assert.deepEqual(host.asked, []);
});

test("the manager's door does not know the peer's key, nor the peer door the manager's", async (t) => {
  const host = await grantingHost(t);
  const { port } = await host.give();
  await assert.rejects(host.channelTo(host.agent.channelPort), { code: 'channel.handshake' });
  await assert.rejects(host.channelTo(port, host.host.manager), { code: 'channel.handshake' });
  for (const identity of [host.host.manager, identityOf('agent'), undefined]) {
    const { bytes } = await attackPort(port, identity, { ALPNProtocols: [ALPN_AGENT_TO_AGENT] });
    assert.equal(bytes.length, 0);
  }
  assert.deepEqual(host.asked, []);
});

test('a grant that ends while its peer is connected takes the connection with it', async (t) => {
  const host = await grantingHost(t);
  const kept = await host.give({ pin: identityOf('agent').pin });
  const { grant, port } = await host.give();
  const http2 = await host.channelTo(port);
  const closed = new Promise((resolve) => http2.once('close', resolve));
  await host.manager.call(deleteGrant, { params: { id: grant.id } });
  await closed;
  await assert.rejects(host.channelTo(port), { code: 'channel.peer_refused' });
  await host.manager.call(deleteGrant, { params: { id: kept.grant.id } });
  assert.equal(await isClosed(port), true);
});

test('nothing is answered after the time of a grant, on a channel that is open since before', async (t) => {
  const world = { now: Date.UTC(2026, 5, 1) as Instant };
  const host = await grantingHost(t, { clock: { now: () => world.now } });
  const { grant, port } = await host.give({ now: world.now });
  const { api } = host.clientAt(port);
  const params = { id: grant.id };
  assert.equal((await api.call(peerGetVmState, { params })).state, 'running');
  world.now = (world.now + HOUR) as Instant;
  await assert.rejects(api.call(peerGetVmState, { params }), { code: 'grant.expired' });
  await assert.rejects(api.call(peerCreateMigration, { params, body: XML }), { code: 'grant.expired' });
  await assert.rejects(host.channelTo(port), { category: 'unavailable' });
  assert.equal(host.asked.length, 1);
});

test('a peer whose manager is removed loses its channel at once', async (t) => {
  const host = await grantingHost(t);
  const { port } = await host.give();
  const http2 = await host.channelTo(port);
  const closed = new Promise((resolve) => http2.once('close', resolve));
  const next = identityOf('manager');
  const connection = new ChannelConnection({
    target: {
      identity: next,
      trustedAgentPins: new PinSet('agent', [host.host.agentPin]),
      host: '127.0.0.1',
      port: host.agent.channelPort,
    },
  });
  t.after(() => connection.close());
  const both = { epoch: 1, number: 2, pins: [host.host.manager.pin, next.pin] };
  await host.manager.call(putManagers, { body: both });
  await connection.waitUntilUp();
  await clientOver(connection).call(putManagers, { body: { epoch: 1, number: 3, pins: [next.pin] } });
  await closed;
  assert.deepEqual(await clientOver(connection).call(listGrants, {}), { grants: [] });
  assert.equal(await isClosed(port), true);
});

test('an agent that is restarted has its door open again for the grants that hold', async (t) => {
  const host = await grantingHost(t);
  const { grant, port } = await host.give();
  await host.agent.close();
  assert.equal(await isClosed(port), true);
  const asked: string[] = [];
  await host.host.start({ engines: grantingEngines(asked), run: noHostCommands, peerPort: port });
  const { api } = host.clientAt(port);
  assert.equal((await api.call(peerGetVmState, { params: { id: grant.id } })).state, 'running');
  assert.deepEqual(asked, [`vmState ${grant.id}`]);
});

test('SECURITY: a body that is too large is refused, and one without a grant is not even read', async (t) => {
  const host = await grantingHost(t);
  const { grant, port } = await host.give();
  const http2 = await host.channelTo(port);
  const send = (id: string, body: string, headers: OutgoingHttpHeaders = {}) =>
    exchange(
      http2,
      {
        method: 'POST',
        path: `/v1/peer/migrations/${id}`,
        headers: { 'content-type': 'application/json', ...headers },
        body,
      },
      65_536,
    );
  const huge = JSON.stringify({ xml: 'x'.repeat(3 << 20), persistentXml: null });
  assert.equal((await send(grant.id, huge, { 'content-length': huge.length })).status, 413);
  assert.equal(
    (await send(grant.id, JSON.stringify({ xml: 'x'.repeat(1_000_001), persistentXml: null }))).status,
    400,
  );
  assert.equal((await send(grant.id, '['.repeat(100_000))).status, 400);
  assert.equal((await send(grant.id, '{"__proto__":{"xml":"x"}}')).status, 400);
  // The head alone is enough to refuse; not one byte of the body has to come.
  const stream = http2.request({
    ':method': 'POST',
    ':path': `/v1/peer/migrations/${randomUUID()}`,
    'content-type': 'application/json',
    'content-length': 1_000_000,
  });
  const status = await new Promise((resolve) => stream.once('response', (head) => resolve(head[':status'])));
  assert.equal(status, 403);
  stream.close();
  assert.deepEqual(host.asked, []);
});

/** A clock-free way to the same: the door's bound is short here, and the test waits for what it does. */
test('SECURITY: one that sends its body byte by byte, or never ends it, is cut off, and others are served', async (t) => {
  const { PeerDoor } = await import('./peer-door.ts');
  const identity = identityOf('agent');
  const peer = identityOf('agent');
  const grant = grantFor(peer.pin);
  const door = new PeerDoor({
    identity: () => identity,
    grants: { admit: () => grant },
    port: 0,
    handlers: { peerGetVmState: async () => ({ now: 0, state: null, reason: '', phase: null }) } as never,
    log: { error() {}, warn() {}, info() {} } as never,
    clock: { now: () => 0 as Instant },
    requestMs: 200,
  });
  t.after(() => door.close());
  const port = await door.open({ pins: () => peer.asPinSet(), admitsAddress: () => true, refused: () => {} });
  const session = await dialChannel({
    identity: peer,
    trustedAgentPins: identity.asPinSet(),
    host: '127.0.0.1',
    port,
    timeoutMs: 10_000,
  });
  t.after(() => session.destroy());
  const head = {
    ':method': 'POST',
    ':path': `/v1/peer/migrations/${grant.id}`,
    'content-type': 'application/json',
  };
  const slow = Array.from({ length: 3 }, () => {
    const stream = session.http2.request(head);
    stream.write('{');
    return stream;
  });
  const drip = setInterval(() => {
    for (const stream of slow) if (!stream.destroyed) stream.write(' ');
  }, 20);
  t.after(() => clearInterval(drip));
  const ended = slow.map(over);
  // Another request on the same channel has its answer meanwhile.
  assert.equal((await get(session.http2, `/v1/peer/migrations/${grant.id}`)).status, 200);
  for (const one of ended) await one;
});

test('SECURITY: more requests at once than a peer may have are refused, and its channel goes when it goes on', async (t) => {
  const host = await grantingHost(t);
  const { grant, port } = await host.give();
  const http2 = await host.channelTo(port);
  assert.equal(http2.remoteSettings.maxConcurrentStreams, 4);
  // Node's client keeps to what it is told; channels are what it can have more of.
  const more = await Promise.all([host.channelTo(port), host.channelTo(port), host.channelTo(port)]);
  await assert.rejects(host.channelTo(port), { code: 'channel.peer_refused' });
  for (const one of [http2, ...more])
    assert.equal((await get(one, `/v1/peer/migrations/${grant.id}`)).status, 200);
  const [event] = await host.refusedEvents(1);
  assert.match(event?.message ?? '', /too-many-channels/);
});

test('SECURITY: a flood of refused requests fills neither the events nor the channel of others', async (t) => {
  const host = await grantingHost(t);
  const { port } = await host.give();
  const bystander = identityOf('agent');
  const theirs = await host.give({ pin: bystander.pin });
  const http2 = await host.channelTo(port);
  const path = `/v1/peer/migrations/${theirs.grant.id}`;
  for (let round = 0; round < 50; round++) {
    const answers = await Promise.all([1, 2, 3, 4].map(() => get(http2, path)));
    assert.ok(answers.every(({ status }) => status === 403));
  }
  assert.ok((await host.refusedEvents(6)).length === 6);
  const { api } = host.clientAt(port, bystander);
  assert.equal((await api.call(peerGetVmState, { params: { id: theirs.grant.id } })).state, 'running');
});

async function identityOfHost({ host }: Awaited<ReturnType<typeof grantingHost>>) {
  const { IdentityStore } = await import('../identity.ts');
  const { systemRandomness } = await import('@virt-trust/base/randomness.ts');
  return (await IdentityStore.open(host.paths.identity, systemRandomness)).store.current;
}

function clientOf(t: TestContext, to: { port: number; pin: string }, identity: ChannelIdentity<'agent'>) {
  const peer: Grant['peer'] = {
    name: 'other',
    pins: [to.pin],
    addresses: ['127.0.0.1'],
    reachedAt: ['127.0.0.1'],
    port: to.port,
  };
  const client = peerClient({ peer }, () => identity);
  t.after(() => client.close());
  return client;
}
