import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { HOUR, type Instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { identityOf } from '@virt-trust/channel/fixtures.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { deleteGrant, listGrants, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { putManagers } from '@virt-trust/contract/agent/identity-operations.ts';
import {
  peerCreateMigration,
  peerEndMigration,
  peerGetVmState,
} from '@virt-trust/contract/agent/peer-operations.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import { clientOver } from '../fixtures.ts';
import { grantFor, grantingEngines, noHostCommands } from '../grants/fixtures.ts';
import { peerClient } from '../peers/peer-client.ts';
import { IdentityStore } from '../state/identity.ts';
import { grantingHost, isClosed } from './fixture-granting-host.ts';

const XML = { xml: '<domain/>', persistentXml: null };

test('two agents exchange what their grants let them, and the door closes with the last grant', async (t) => {
  const a = await grantingHost(t);
  const b = await grantingHost(t);
  const id = randomUUID();
  const { manager: managerA } = a;
  const onA = grantFor(b.host.agentPin, { id, role: 'source', operations: ['status'] });
  const onB = grantFor(a.host.agentPin, { id });
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

async function identityOfHost({ host }: Awaited<ReturnType<typeof grantingHost>>) {
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
