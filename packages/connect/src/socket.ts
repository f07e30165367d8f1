import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Attempt } from './attempt.ts';

/** Dials the target; the socket belongs to the attempt. */
export async function dial(attempt: Attempt): Promise<Duplex> {
  const { host, port } = attempt.target;
  const socket = attempt.own(connect({ host, port, noDelay: true }));
  await settled(socket, 'connect');
  return socket;
}

/** Waits for an event of a socket; an error or the close of the socket rejects. */
export function settled(socket: Duplex, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    if (socket.destroyed) {
      reject(socket.errored ?? new Error('the connection is closed'));
      return;
    }
    const done = (): void => {
      clear();
      resolve();
    };
    const failed = (error?: Error): void => {
      clear();
      reject(error ?? socket.errored ?? new Error('the server closed the connection'));
    };
    const closed = (): void => failed();
    const clear = (): void => {
      socket.off(event, done).off('error', failed).off('close', closed);
    };
    socket.once(event, done).once('error', failed).once('close', closed);
  });
}

/** The next bytes that came, whatever their number; undefined once the server has closed. */
export async function readChunk(socket: Duplex): Promise<Uint8Array | undefined> {
  for (;;) {
    const chunk: unknown = socket.read();
    if (chunk instanceof Uint8Array) return chunk;
    if (socket.errored !== null) throw socket.errored;
    if (socket.readableEnded || socket.destroyed) return undefined;
    await readableOrOver(socket);
  }
}

function readableOrOver(socket: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const events = ['readable', 'end', 'error', 'close'];
    const done = (): void => {
      for (const event of events) socket.off(event, done);
      resolve();
    };
    for (const event of events) socket.on(event, done);
  });
}
