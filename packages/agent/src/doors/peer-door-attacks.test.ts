import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';
import { test } from 'node:test';
import { connect } from 'node:tls';
import type { Instant } from '@virt-trust/base/instant.ts';
import { ALPN_AGENT_TO_AGENT } from '@virt-trust/channel/alpn.ts';
import { dialChannel } from '@virt-trust/channel/dial.ts';
import { exchange } from '@virt-trust/channel/exchange.ts';
import { attackPort, identityOf } from '@virt-trust/channel/fixtures.ts';
import {
  peerCreateMigration,
  peerEndMigration,
  peerGetVmState,
  peerServeHandshake,
} from '@virt-trust/contract/agent/peer-operations.ts';
import { grantFor } from '../grants/fixtures.ts';

import { grantingHost } from './fixture-granting-host.ts';
import { PeerDoor } from './peer-door.ts';

const XML = { xml: '<domain/>', persistentXml: null };

const get = (http2: ClientHttp2Session, path: string, method = 'GET') =>
  exchange(http2, { method, path }, 65_536);

/** Resolves with the stream's code when it is over, one way or another. */
function over(stream: ClientHttp2Stream): Promise<number> {
  stream.resume().on('error', () => {});
  return new Promise((resolve) => stream.once('close', () => resolve(stream.rstCode)));
}

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

test('SECURITY: one that sends its body byte by byte, or never ends it, is cut off, and others are served', async (t) => {
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
  const port = await door.open({
    pins: () => peer.asPinSet(),
    admitsAddress: () => true,
    grantsOf: () => 1,
    refused: () => {},
  });
  const session = await dialChannel({
    identity: peer,
    trustedAgentPins: identity.asPinSet(),
    host: '127.0.0.1',
    port,
    timeoutMs: 60_000,
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

test('SECURITY: a peer has four channels of four requests at once, and no more', async (t) => {
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

test('a peer has a channel more for each further grant, as each migration between two hosts has one of its own', async (t) => {
  const host = await grantingHost(t);
  const { port } = await host.give();
  const first = Array.from({ length: 4 }, () => host.channelTo(port));
  await Promise.all(first);
  for (let more = 0; more < 4; more++) {
    await assert.rejects(host.channelTo(port), { code: 'channel.peer_refused' });
    await host.give();
    await host.channelTo(port);
  }
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

/** An HTTP/2 frame (RFC 9113 §4.1). */
function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const PREFACE = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1'), frame(4, 0, 0)]);
const END = 4 | 1;

/** A request's head in HPACK without a table or Huffman (RFC 7541 §6.2.2). */
function requestHead(path: string): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat([
    Buffer.from([0x82, 0x87, 0x04]),
    text(path),
    Buffer.from([0x01]),
    text('agent.invalid'),
  ]);
}

test('RFC 9113 §10.5: frames that keep the host busy end the channel that brought them, and no other', async (t) => {
  const host = await grantingHost(t);
  const { grant, port } = await host.give();
  const bystander = identityOf('agent');
  const theirs = await host.give({ pin: bystander.pin });
  const { api } = host.clientAt(port, bystander);
  const path = `/v1/peer/migrations/${grant.id}`;
  const streams = Array.from({ length: 5000 }, (_, index) => 2 * index + 1);
  const floods: Record<string, Buffer[]> = {
    'requests that are reset at once (rapid reset)': streams.flatMap((id) => [
      frame(1, END, id, requestHead(path)),
      frame(3, 0, id, Buffer.from([0, 0, 0, 8])),
    ]),
    'more requests at once than allowed': streams.map((id) => frame(1, 4, id, requestHead(path))),
    'a head that never ends (CONTINUATION)': [
      frame(1, 1, 1, requestHead(path)),
      ...streams.map(() => frame(9, 0, 1, Buffer.concat([Buffer.from([0, 1, 0x78, 1, 0x79])]))),
    ],
    'streams with even numbers': [frame(1, END, 2, requestHead(path))],
    'settings without end': streams.map(() => frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 0xff, 0xff]))),
    'PINGs whose answers nobody reads': streams.flatMap(() =>
      [1, 2, 3, 4].map(() => frame(6, 0, 0, Buffer.alloc(8))),
    ),
  };
  for (const [what, frames] of Object.entries(floods)) {
    const socket = connect({
      host: '127.0.0.1',
      port,
      cert: host.peer.certificatePem,
      key: host.peer.privateKeyPem,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN_AGENT_TO_AGENT],
    });
    t.after(() => socket.destroy());
    const ended = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve));
    // One that reads has its channel ended by the host; one that reads nothing ends when the host's patience does.
    if (!what.startsWith('PINGs')) socket.resume();
    socket.write(Buffer.concat([PREFACE, ...frames]));
    const state = await api.call(peerGetVmState, { params: { id: theirs.grant.id } });
    assert.equal(state.state, 'running', what);
    if (what.startsWith('settings') || what.startsWith('PINGs')) socket.destroy();
    await ended;
  }
  assert.equal((await api.call(peerGetVmState, { params: { id: theirs.grant.id } })).state, 'running');
});
