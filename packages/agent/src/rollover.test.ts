import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { identityOf } from '@virt-trust/channel/fixtures.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import {
  activateIdentity,
  announceIdentity,
  getIdentity,
  putManagers,
  retireIdentity,
} from '@virt-trust/contract/agent/identity-operations.ts';
import { getStatus, listEvents } from '@virt-trust/contract/agent/operations.ts';
import type { ApiClient } from '@virt-trust/contract/client.ts';
import { clientOver, enrolledAgent } from './fixtures.ts';

/** Requests that keep coming from before a change until after it; each must be answered. */
function startLoad(client: ApiClient): { stop(): Promise<number> } {
  let stopped = false;
  let answered = 0;
  const worker = async () => {
    while (!stopped) {
      await client.call(getStatus, {});
      answered++;
    }
  };
  const workers = Promise.all(Array.from({ length: 4 }, worker));
  return {
    async stop() {
      stopped = true;
      await workers;
      return answered;
    },
  };
}

async function connected(t: TestContext) {
  const host = await enrolledAgent(t);
  const agent = await host.start();
  const connection = new ChannelConnection({
    target: {
      identity: host.manager,
      trustedAgentPins: new PinSet('agent', [host.agentPin]),
      host: '127.0.0.1',
      port: agent.channelPort,
    },
  });
  t.after(() => connection.close());
  return { host, agent, connection, client: clientOver(connection) };
}

test("the agent's key is announced, activated and retired over the channel while requests run, none lost", async (t) => {
  const { host, agent, connection, client } = await connected(t);
  const load = startLoad(client);
  const waiting = client.call(listEvents, { query: { after: 1, wait: 60 } });

  const { next } = await client.call(announceIdentity, {});
  assert.ok(next !== null);
  assert.equal((await client.call(announceIdentity, {})).next, next, 'announced once');
  await connection.replace({ trustedAgentPins: new PinSet('agent', [host.agentPin, next]) });
  const activated = await client.call(activateIdentity, { body: { pin: next } });
  assert.deepEqual(activated, { current: next, next: null, previous: host.agentPin });
  // From the next connection on it is the new key alone that is served.
  await connection.replace({ trustedAgentPins: new PinSet('agent', [next]) });
  assert.deepEqual(
    await client.call(activateIdentity, { body: { pin: next } }),
    activated,
    'again: the same',
  );
  await assert.rejects(client.call(retireIdentity, { body: { pin: next } }), { code: 'identity.in_use' });
  const retired = await client.call(retireIdentity, { body: { pin: host.agentPin } });
  assert.deepEqual(retired, { current: next, next: null, previous: null });
  await assert.rejects(client.call(activateIdentity, { body: { pin: host.agentPin } }), {
    code: 'identity.unknown_pin',
  });

  assert.ok((await load.stop()) > 0);
  // The request that waited through it all got its event.
  assert.equal((await waiting).events[0]?.kind, 'identity.activated');

  await connection.close();
  await agent.close();
  const again = await host.start();
  assert.notEqual(again.channelPort, 0);
  const second = new ChannelConnection({
    target: {
      identity: host.manager,
      trustedAgentPins: new PinSet('agent', [next]),
      host: '127.0.0.1',
      port: again.channelPort,
    },
  });
  t.after(() => second.close());
  assert.equal((await clientOver(second).call(getIdentity, {})).current, next, 'after a restart too');
});

test("the managers' keys are replaced over the channel while requests run, none lost", async (t) => {
  const { host, connection, client } = await connected(t);
  const load = startLoad(client);
  const next = identityOf('manager');
  await client.call(putManagers, { body: { epoch: 1, number: 2, pins: [host.manager.pin, next.pin] } });
  await connection.replace({ identity: next });
  await client.call(putManagers, { body: { epoch: 1, number: 3, pins: [next.pin] } });
  assert.ok((await load.stop()) > 0);
  assert.deepEqual((await client.call(getStatus, {})).managers, [next.pin]);
  await assert.rejects(connection.replace({ identity: host.manager }), { code: 'channel.peer_refused' });
});

test('a set of managers that is played back, leaves out who asks, or holds no real pin is refused', async (t) => {
  const { host, client } = await connected(t);
  const { pin } = host.manager;
  const put = (epoch: number, number: number, pins: string[]) =>
    client.call(putManagers, { body: { epoch, number, pins } });
  const stranger = identityOf('manager').pin;
  await put(1, 5, [pin, stranger]);
  await assert.rejects(put(1, 4, [pin]), { code: 'managers.outdated' });
  await assert.rejects(put(1, 5, [pin]), { code: 'managers.outdated' });
  await assert.rejects(put(0, 9, [pin]), { code: 'managers.outdated' });
  await assert.rejects(put(1, 6, [stranger]), { code: 'managers.excludes_asker' });
  await assert.rejects(put(1, 6, [pin, host.agentPin]), { code: 'channel.pin_role' });
  // The schema lets a last character through that no digest has.
  await assert.rejects(put(1, 6, [pin, `${stranger.slice(0, -1)}B`]), { code: 'pin.malformed' });
  assert.deepEqual((await put(1, 5, [pin, stranger])).number, 5, 'the same again is fine');
  assert.deepEqual((await put(2, 0, [pin])).epoch, 2, 'a higher epoch begins anew');
});
