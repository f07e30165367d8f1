import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { carry } from './carry.ts';
import { PooledSocket } from './pooled-socket.ts';

async function listening(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const open = (port: number) => connect({ host: '127.0.0.1', port, allowHalfOpen: true });

const digestOf = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

/** A server whose connections are carried, out of memory that is used again, to another port. */
async function pooledListening(t: TestContext, to: number): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.on('connection', (socket) => void carry(new PooledSocket(socket), open(to)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return server;
}

test('what is read into memory that is used again arrives as it was sent, however slowly it is taken', async (t) => {
  const sent = randomBytes(8 << 20);
  const echo = await listening(t, (socket) => {
    const all: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => {
      all.push(chunk);
      socket.pause();
      setImmediate(() => socket.resume());
    });
    socket.on('end', () => socket.end(Buffer.concat(all)));
  });
  const server = await pooledListening(t, echo);
  const exchange = async () => {
    const socket = open((server.address() as AddressInfo).port);
    const heard: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => heard.push(chunk));
    socket.end(sent);
    await once(socket, 'end');
    return digestOf(Buffer.concat(heard));
  };
  assert.deepEqual(new Set(await Promise.all([exchange(), exchange()])), new Set([digestOf(sent)]));
});

test('a pooled connection that is over counts no more towards its server’s limit', async (t) => {
  const echo = await listening(t, (socket) => socket.pipe(socket));
  const server = await pooledListening(t, echo);
  server.maxConnections = 1;
  for (const word of ['first', 'second', 'third']) {
    const socket = open((server.address() as AddressInfo).port);
    socket.end(word);
    const [heard] = await once(socket, 'data');
    assert.equal(String(heard), word);
    socket.resume();
    await once(socket, 'close');
    while ((await connectionsOf(server)) > 0) await new Promise((resolve) => setImmediate(resolve));
  }
});

test('a pooled connection whose accepted one is destroyed ends', async (t) => {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const socket = open((server.address() as AddressInfo).port);
  const [accepted] = (await once(server, 'connection')) as [Socket];
  const pooled = new PooledSocket(accepted);
  accepted.destroy();
  await once(pooled.socket, 'close');
  socket.resume();
  await once(socket, 'end');
  socket.destroy();
});

function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve, reject) =>
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
  );
}

test('what many connections carry at once, in pieces of all sizes, arrives as it was sent', async (t) => {
  const echo = await listening(t, (socket) => socket.pipe(socket));
  const ends: Promise<Error | undefined>[] = [];
  const carried = await listening(t, (socket) => ends.push(carry(socket, open(echo))));
  const sent = randomBytes(2 << 20);
  const digest = createHash('sha256').update(sent).digest('hex');
  const exchange = async (step: number) => {
    const socket = open(carried);
    const heard = createHash('sha256');
    socket.on('data', (chunk) => heard.update(chunk));
    for (let at = 0, size = step; at < sent.length; at += size, size = ((size * 7) % 90_000) + step)
      if (!socket.write(sent.subarray(at, at + size))) await once(socket, 'drain');
    socket.end();
    await once(socket, 'end');
    return heard.digest('hex');
  };
  const heard = await Promise.all([1, 100, 16_384, 20_000, 65_536, 65_536].map(exchange));
  assert.deepEqual(new Set(heard), new Set([digest]));
  assert.deepEqual(new Set(await Promise.all(ends)), new Set([undefined]));
});
