import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { connect as connectTcp, createServer as createTcpServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ChannelConnection, type ConnectionState } from './connection.ts';
import type { ConnectionOptions } from './connection-options.ts';
import { identityOf, ManualSleep, madeUpPin, startAgent } from './fixtures.ts';
import { PinSet } from './pins.ts';

const GET = { method: 'GET', path: '/' };

function connectionTo(t: TestContext, options: ConnectionOptions): ChannelConnection {
  const connection = new ChannelConnection(options);
  t.after(() => connection.close());
  return connection;
}

function nextState(connection: ChannelConnection, kind: ConnectionState['kind']): Promise<ConnectionState> {
  return new Promise((resolve) => {
    const stop = connection.onState((state) => {
      if (state.kind !== kind) return;
      stop();
      resolve(state);
    });
  });
}

/** A cable between manager and agent that can be cut without a word to either. */
async function startCable(t: TestContext, port: number) {
  const ends: Socket[] = [];
  const server = createTcpServer((near) => {
    const far = connectTcp(port, '127.0.0.1');
    ends.push(near, far);
    for (const end of [near, far]) end.on('error', () => {});
    near.pipe(far);
    far.pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    for (const end of ends) end.destroy();
  });
  return {
    port: (server.address() as { port: number }).port,
    cut() {
      for (const end of ends.splice(0)) {
        end.unpipe();
        end.pause();
        t.after(() => end.destroy());
      }
    },
    break() {
      for (const end of ends.splice(0)) end.destroy();
    },
  };
}

test('a request carries method, path, headers and body, and the answer comes back whole', async (t) => {
  const body = Buffer.alloc(300_000, 'x');
  const { target } = await startAgent(t, {
    handler: (request, response) => {
      const hash = createHash('sha256');
      request.on('data', (part) => hash.update(part));
      request.on('end', () => {
        response.writeHead(201, { 'x-of': `${request.method} ${request.url} ${request.headers['x-me']}` });
        response.end(hash.digest('hex'));
      });
    },
  });
  const connection = connectionTo(t, { target });
  const answer = await connection.request({ method: 'PUT', path: '/a?b=c', headers: { 'x-me': 'm' }, body });
  assert.equal(answer.status, 201);
  assert.equal(answer.headers['x-of'], 'PUT /a?b=c m');
  assert.equal(answer.body.toString(), createHash('sha256').update(body).digest('hex'));
  assert.equal(connection.state.kind, 'up');
});

test('a connection that was dropped is dialled again, and requests meanwhile wait for it', async (t) => {
  const { listener, target } = await startAgent(t);
  const cable = await startCable(t, listener.address.port);
  const connection = connectionTo(t, { target: { ...target, port: cable.port } });
  await connection.waitUntilUp();
  await connection.request(GET);
  const down = nextState(connection, 'down');
  cable.break();
  const state = await down;
  assert.ok(state.kind === 'down' && state.reason.code === 'channel.cut');
  assert.equal((await connection.request(GET)).body.toString(), 'served');
});

test('while there is no channel a request fails at once and says why; back-off grows until the agent is back', async (t) => {
  const time = new ManualSleep();
  const agent = await startAgent(t);
  const trusted = agent.own.managers;
  agent.own.managers = new PinSet('manager', []);
  const connection = connectionTo(t, {
    target: agent.target,
    sleep: time.sleep,
    backOff: { firstMs: 1000, maxMs: 4000 },
    randomness: { bytes: () => Uint8Array.of(0, 0) },
    keepAliveMs: 99_999,
  });
  for (const retryInMs of [500, 1000, 2000]) {
    await assert.rejects(connection.request(GET), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'channel.down');
      assert.equal((error.cause as { code?: string }).code, 'channel.peer_refused');
      return true;
    });
    assert.equal(connection.state.kind === 'down' && connection.state.retryInMs, retryInMs);
    if (retryInMs === 2000) agent.own.managers = trusted;
    const dialling = nextState(connection, 'down');
    await time.wake(retryInMs);
    await dialling;
    if (retryInMs === 2000) break;
  }
  await connection.waitUntilUp();
  assert.equal((await connection.request(GET)).status, 200);
});

test('RFC 9113 §6.7: a cable that is cut without a word is discovered by PING', async (t) => {
  const time = new ManualSleep();
  const { listener, target } = await startAgent(t);
  const cable = await startCable(t, listener.address.port);
  const connection = connectionTo(t, {
    target: { ...target, port: cable.port },
    sleep: time.sleep,
    keepAliveMs: 1234,
  });
  await connection.request(GET);
  cable.cut();
  const down = nextState(connection, 'down');
  // The interval passes, then the time for the answer.
  await time.wake(1234);
  await time.wake(1234);
  const state = await down;
  assert.ok(state.kind === 'down' && state.reason.code === 'channel.silent');
  assert.equal((await connection.request(GET)).status, 200);
});

test('an answer that is larger than the bound is refused and leaves the channel up', async (t) => {
  const { target } = await startAgent(t, {
    handler: (request, response) => response.end(Buffer.alloc(request.url === '/large' ? 200_000 : 10)),
  });
  const connection = connectionTo(t, { target, maxBodyBytes: 100_000 });
  await assert.rejects(connection.request({ method: 'GET', path: '/large' }), {
    code: 'channel.body_too_large',
  });
  assert.equal((await connection.request(GET)).body.length, 10);
});

test('an answer that breaks off is an error, never a short body', async (t) => {
  const agent = await startAgent(t, {
    handler: ({ url, stream }, response) => {
      if (url === '/cut-announced') response.setHeader('content-length', 100);
      response.write('half of it', () => {
        if (url === '/reset') stream.destroy(new Error('disk full'));
        else if (url === '/destroyed') stream.session?.destroy();
        else {
          // The agent ends the TCP connection of a manager that it no longer trusts.
          agent.own.managers = new PinSet('manager', []);
          agent.listener.refresh();
          agent.own.managers = agent.manager.asPinSet();
        }
      });
    },
  });
  const connection = connectionTo(t, { target: agent.target, backOff: { firstMs: 0, maxMs: 0 } });
  const paths = ['/reset', '/destroyed', '/cut', '/cut-announced'];
  for (const path of paths) {
    await assert.rejects(
      connection.request({ method: 'POST', path, body: 'x' }),
      { code: 'channel.interrupted' },
      path,
    );
  }
  // What may have been done is not sent twice.
  assert.deepEqual(agent.asked, paths);
});

test('an answer of announced length is whole although the connection ended right after it', async (t) => {
  const { target } = await startAgent(t, {
    handler: (request, response) => {
      response.setHeader('content-length', 3);
      response.end('all', () => request.stream.session?.destroy());
    },
  });
  const connection = connectionTo(t, { target });
  assert.equal((await connection.request(GET)).body.toString(), 'all');
});

test('RFC 9113 §8.7: a request that the agent refused unseen is sent again', async (t) => {
  let refusals = 2;
  const { target } = await startAgent(t, {
    handler: (_, response) => {
      if (refusals-- > 0) response.stream.close(7);
      else response.end('at last');
    },
  });
  const connection = connectionTo(t, { target });
  assert.equal(
    (await connection.request({ method: 'POST', path: '/', body: 'x' })).body.toString(),
    'at last',
  );
});

test('RFC 9113 §6.8: after GOAWAY new requests go over a new session and the running one ends well', async (t) => {
  const { promise: running, resolve: started } = Promise.withResolvers<() => void>();
  const { target, listener } = await startAgent(t, {
    handler: (request, response) => {
      if (request.url === '/slow') started(() => response.end('finished'));
      else if (request.url === '/goaway') response.end('x', () => request.stream.session?.close());
      else response.end(String(listener.peerOf(request.stream.session)));
    },
  });
  const connection = connectionTo(t, { target });
  const slow = connection.request({ method: 'GET', path: '/slow' });
  const finish = await running;
  const up = nextState(connection, 'up');
  await connection.request({ method: 'GET', path: '/goaway' });
  await up;
  assert.equal((await connection.request(GET)).body.toString(), target.identity.pin);
  finish();
  assert.equal((await slow).body.toString(), 'finished');
});

test('a request that is no longer wanted ends with the reason of its signal', async (t) => {
  const { promise: cancelled, resolve } = Promise.withResolvers<void>();
  const { promise: running, resolve: started } = Promise.withResolvers<void>();
  const { target } = await startAgent(t, {
    handler: (request, response) => {
      if (request.url !== '/slow') {
        response.end('ok');
        return;
      }
      request.stream.once('close', resolve);
      started();
    },
  });
  const connection = connectionTo(t, { target });
  const stop = new AbortController();
  const request = connection.request({ method: 'GET', path: '/slow', signal: stop.signal });
  await running;
  stop.abort(new Error('enough'));
  await assert.rejects(request, /enough/);
  await cancelled;
  assert.equal((await connection.request(GET)).status, 200);
});

test('a stream is read as it comes', async (t) => {
  const { promise: first, resolve } = Promise.withResolvers<() => void>();
  const { target } = await startAgent(t, {
    handler: (_, response) => {
      response.write('one\n');
      resolve(() => response.end('two\n'));
    },
  });
  const connection = connectionTo(t, { target });
  const { status, body } = await connection.stream({ method: 'GET', path: '/events' });
  assert.equal(status, 200);
  const parts: string[] = [];
  for await (const part of body) {
    parts.push(String(part));
    (await first)();
  }
  assert.deepEqual(parts, ['one\n', 'two\n']);
});

test('RFC 9113 §10.5.1: headers beyond the bound are refused and never reach the handler', async (t) => {
  const { target, asked } = await startAgent(t);
  const connection = connectionTo(t, { target });
  await assert.rejects(
    connection.request({ method: 'GET', path: '/large', headers: { 'x-large': 'x'.repeat(40_000) } }),
    (error: { code?: string }) => error.code === 'channel.interrupted' || error.code === 'channel.not_sent',
  );
  const many = Object.fromEntries(Array.from({ length: 300 }, (_, count) => [`x-${count}`, 'y']));
  await assert.rejects(connection.request({ method: 'GET', path: '/many', headers: many }));
  assert.deepEqual(asked, []);
  assert.equal((await connection.request(GET)).status, 200);
});

test('a closed connection says so, to requests that wait as well', async (t) => {
  const { target } = await startAgent(t);
  const connection = new ChannelConnection({
    target: { ...target, trustedAgentPins: new PinSet('agent', [madeUpPin('x')]) },
  });
  const waiting = connection.waitUntilUp();
  const request = connection.request(GET);
  await connection.close();
  await assert.rejects(waiting, { code: 'channel.closed' });
  await assert.rejects(request, { code: 'channel.closed' });
  await assert.rejects(connection.replace({ identity: identityOf('manager') }), { code: 'channel.closed' });
});
