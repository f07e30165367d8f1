import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:net';
import { type TestContext, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { ChannelConnection, type ConnectionState } from './connection.ts';
import { dialFirst } from './dial-first.ts';
import { identityOf, ManualSleep, startAgent, type TestAgent } from './fixtures.ts';
import { PinSet } from './pins.ts';
import { type Sleep, systemSleep } from './sleep.ts';

const patient: Sleep = (_, signal) => systemSleep(60_000, signal);

function dial(agent: TestAgent, host: string, otherHosts: readonly string[], sleep: Sleep = patient) {
  return dialFirst({ ...agent.target, host, otherHosts, headStartMs: 2500, timeoutMs: 60_000, sleep });
}

/** Somebody who accepts connections at an address and says nothing. */
async function silentAt(t: TestContext, host: string): Promise<{ asked: number; port: number }> {
  const seen = { asked: 0, port: 0 };
  const server: Server = createServer((socket) => {
    seen.asked++;
    t.after(() => socket.destroy());
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => server.close());
  seen.port = (server.address() as { port: number }).port;
  return seen;
}

test('the agent is found under another address where the one it had answers no more, and only by its key', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const { port } = agent.target;
  // A stranger has one of the addresses now.
  const stranger = await startAgent(t, { host: '127.0.0.3', port });
  const found = await dial(agent, '127.0.0.1', ['127.0.0.3', '127.0.0.2']);
  t.after(() => found.session.destroy());
  assert.equal(found.host, '127.0.0.2');
  assert.equal(found.session.peerPin, agent.agent.pin);
  assert.deepEqual(stranger.asked, []);
});

test('RFC 8305 §5: an address that says nothing holds up the next for its head start alone', async (t) => {
  const time = new ManualSleep();
  const silent = await silentAt(t, '127.0.0.1');
  const agent = await startAgent(t, { host: '127.0.0.2', port: silent.port });
  const found = dial(agent, '127.0.0.1', ['127.0.0.2'], time.sleep);
  await time.wake(2500);
  const { host, session } = await found;
  t.after(() => session.destroy());
  assert.equal(host, '127.0.0.2');
  assert.equal(silent.asked, 1);
});

test('an address that works is kept, although others work as well', async (t) => {
  const agent = await startAgent(t, { host: '0.0.0.0' });
  for (const host of ['127.0.0.1', '127.0.0.2']) {
    const found = await dial(agent, host, ['127.0.0.1', '127.0.0.2', '127.0.0.3']);
    t.after(() => found.session.destroy());
    assert.equal(found.host, host);
  }
});

test('an agent that refuses the manager says more than addresses that do not answer', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  agent.own.managers = new PinSet('manager', []);
  await assert.rejects(dial(agent, '127.0.0.1', ['127.0.0.2', '127.0.0.3']), {
    code: 'channel.peer_refused',
  });
  await assert.rejects(
    dial(
      { ...agent, target: { ...agent.target, trustedAgentPins: identityOf('agent').asPinSet() } },
      '127.0.0.1',
      ['127.0.0.2'],
    ),
    { code: 'channel.unreachable' },
  );
});

test('SECURITY: a host with very many addresses has only some of them dialled', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.1' });
  const many = Array.from({ length: 200 }, (_, index) => `127.0.1.${index}`);
  await assert.rejects(
    dial(agent, '127.0.0.9', [...many, '127.0.0.1']),
    (error) => isTrustError(error) && error.code === 'channel.unreachable',
  );
});

function nextUp(connection: ChannelConnection): Promise<ConnectionState & { kind: 'up' }> {
  return new Promise((resolve) => {
    const stop = connection.onState((state) => {
      if (state.kind !== 'up') return;
      stop();
      resolve(state);
    });
  });
}

test('a connection goes on under another address, stays there, and asks the preferred one first when that ends', async (t) => {
  const first = await startAgent(t, { host: '127.0.0.1' });
  const { port } = first.target;
  const others: string[] = ['127.0.0.2'];
  const connection = new ChannelConnection({
    target: first.target,
    otherHosts: async () => others,
    backOff: { firstMs: 1, maxMs: 2 },
  });
  t.after(() => connection.close());
  await connection.waitUntilUp();
  assert.equal(connection.state.kind === 'up' && connection.state.host, '127.0.0.1');
  const moved = nextUp(connection);
  await first.listener.close(AbortSignal.abort());
  const second = await startAgent(t, {
    host: '127.0.0.2',
    port,
    identity: () => first.agent,
    trustedPeers: () => first.manager.asPinSet(),
  });
  assert.equal((await moved).host, '127.0.0.2');
  // The first address works again, and nothing goes back to it by itself.
  const again = await startAgent(t, {
    host: '127.0.0.1',
    port,
    identity: () => first.agent,
    trustedPeers: () => first.manager.asPinSet(),
  });
  await connection.request({ method: 'GET', path: '/' });
  assert.equal(connection.state.kind === 'up' && connection.state.host, '127.0.0.2');
  assert.deepEqual(again.asked, []);
  others[0] = '127.0.0.1';
  const back = nextUp(connection);
  await second.listener.close(AbortSignal.abort());
  assert.equal((await back).host, '127.0.0.1');
});

test('an agent that is heard of while its channel is down is dialled there at once', async (t) => {
  const time = new ManualSleep();
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const connection = new ChannelConnection({
    target: { ...agent.target, host: '127.0.0.1' },
    sleep: (milliseconds, signal) =>
      milliseconds === 2500 ? systemSleep(60_000, signal) : time.sleep(milliseconds, signal),
    backOff: { firstMs: 50_000, maxMs: 50_000 },
  });
  t.after(() => connection.close());
  await new Promise<void>((resolve) => connection.onState((state) => state.kind === 'down' && resolve()));
  const up = nextUp(connection);
  await connection.announced('127.0.0.2');
  assert.equal((await up).host, '127.0.0.2');
});

test('a channel that answers is left alone, wherever its agent is heard of', async (t) => {
  const agent = await startAgent(t);
  const connection = new ChannelConnection({ target: agent.target });
  t.after(() => connection.close());
  await connection.waitUntilUp();
  const states: string[] = [];
  connection.onState((state) => states.push(state.kind));
  await connection.announced('127.0.0.77');
  assert.deepEqual(states, []);
  assert.equal(connection.state.kind === 'up' && connection.state.host, '127.0.0.1');
});
