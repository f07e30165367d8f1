import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { carry } from './carry.ts';

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
