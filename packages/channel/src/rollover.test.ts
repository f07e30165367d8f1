import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ChannelConnection } from './connection.ts';
import { identityOf, startAgent, type TestAgent } from './fixtures.ts';
import { PinSet } from './pins.ts';

/** Requests that keep coming, several at a time, from before a change until after it. */
function startLoad(connection: ChannelConnection): { stop(): Promise<string[]> } {
  let stopped = false;
  let count = 0;
  const answers: string[] = [];
  const worker = async () => {
    while (!stopped) {
      const id = `${count++}`;
      const { status, body } = await connection.request({ method: 'POST', path: '/work', body: id });
      assert.equal(status, 200);
      assert.equal(body.toString(), id);
      answers.push(id);
    }
  };
  const workers = Promise.all(Array.from({ length: 4 }, worker));
  return {
    async stop() {
      stopped = true;
      await workers;
      assert.equal(answers.length, count);
      return answers;
    },
  };
}

/** An agent that answers /work with its body, and holds /slow until it is released. */
async function startWorkingAgent(t: TestContext): Promise<TestAgent & { slow: Promise<() => void> }> {
  const { promise: slow, resolve } = Promise.withResolvers<() => void>();
  const agent = await startAgent(t, {
    handler: (request, response) => {
      if (request.url === '/slow')
        resolve(() => response.end(`${agent.listener.peerOf(request.stream.session)}`));
      else if (request.url === '/who') response.end(`${agent.listener.peerOf(request.stream.session)}`);
      else request.pipe(response);
    },
  });
  return { ...agent, slow };
}

test("the manager's key is rolled over while requests run, and none is lost", async (t) => {
  const agent = await startWorkingAgent(t);
  const connection = new ChannelConnection({ target: agent.target });
  t.after(() => connection.close());
  const next = identityOf('manager');
  const load = startLoad(connection);
  const slow = connection.request({ method: 'GET', path: '/slow' });
  const release = await agent.slow;

  // Not announced yet: the agent refuses the key, and nothing has changed.
  await assert.rejects(connection.replace({ identity: next }), { code: 'channel.peer_refused' });
  assert.equal(
    (await connection.request({ method: 'GET', path: '/who' })).body.toString(),
    agent.manager.pin,
  );

  // Announce next.
  agent.own.managers = new PinSet('manager', [agent.manager.pin, next.pin]);
  agent.listener.refresh();
  // Use next.
  await connection.replace({ identity: next });
  assert.equal((await connection.request({ method: 'GET', path: '/who' })).body.toString(), next.pin);
  // What began on the old key ends on the old key.
  release();
  assert.equal((await slow).body.toString(), agent.manager.pin);
  // Retire old.
  agent.own.managers = next.asPinSet();
  agent.listener.refresh();
  assert.equal((await connection.request({ method: 'GET', path: '/who' })).body.toString(), next.pin);
  assert.ok((await load.stop()).length > 0);
  await assert.rejects(connection.replace({ identity: agent.manager }), { code: 'channel.peer_refused' });
});

test("the agent's key is rolled over without a restart while requests run, and none is lost", async (t) => {
  const agent = await startWorkingAgent(t);
  const connection = new ChannelConnection({ target: agent.target });
  t.after(() => connection.close());
  await connection.waitUntilUp();
  const next = identityOf('agent');
  const load = startLoad(connection);
  const slow = connection.request({ method: 'GET', path: '/slow' });
  const release = await agent.slow;

  // Announce next: the manager trusts both.
  await connection.replace({ trustedAgentPins: new PinSet('agent', [agent.agent.pin, next.pin]) });
  // Use next: the session that is there goes on, a new one meets the new key.
  agent.own.identity = next;
  agent.listener.refresh();
  await connection.request({ method: 'GET', path: '/who' });
  // Retire old.
  await connection.replace({ trustedAgentPins: next.asPinSet() });
  assert.equal(connection.state.kind === 'up' && connection.state.peerPin, next.pin);
  release();
  assert.equal((await slow).body.toString(), agent.manager.pin);
  assert.ok((await load.stop()).length > 0);
  await assert.rejects(connection.replace({ trustedAgentPins: agent.agent.asPinSet() }), {
    code: 'channel.peer_untrusted',
  });
  assert.equal((await connection.request({ method: 'GET', path: '/who' })).status, 200);
});
