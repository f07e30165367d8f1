import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { freeRead } from './free-read.ts';
import { PooledSocket } from './pooled-socket.ts';

/**
 * Carries bytes both ways between two streams until both directions have ended or one breaks; then both are gone.
 * Reading stops while the other side does not take more, so that no more than the streams' own buffers is ever held.
 * Resolves with undefined after a clean end, else with the error.
 */
export function carry(one: Duplex | PooledSocket, b: Duplex): Promise<Error | undefined> {
  const a = one instanceof PooledSocket ? one.socket : one;
  return new Promise((resolve) => {
    let open = 2;
    const over = (error?: Error) => {
      a.destroy();
      b.destroy();
      resolve(error);
    };
    const directionEnded = () => {
      if (--open === 0) over();
    };
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      if (from === a && one instanceof PooledSocket) one.pour(to, directionEnded);
      else pump(from, to, directionEnded);
      from.once('error', over);
      from.once('close', () => over(new Error('the connection was closed before its end')));
    }
  });
}

/**
 * One direction. What arrives in one turn of the event loop is written as a whole, but not to TLS, which would copy all
 * of it into one new buffer first.
 */
function pump(from: Duplex, to: Duplex, onEnd: () => void): void {
  const joins = !(to instanceof TLSSocket);
  // SECURITY: what a socket read is this function's alone; of other streams' chunks that is not known.
  const frees = from instanceof Socket;
  let corked = false;
  const flush = () => {
    corked = false;
    to.uncork();
  };
  from.on('data', (chunk: Uint8Array) => {
    if (joins && !corked) {
      corked = true;
      to.cork();
      setImmediate(flush);
    }
    // SECURITY: after a failed write the kernel may still read from it.
    const written = (error: Error | null | undefined) => {
      if (frees && !error) freeRead(chunk);
    };
    if (!to.write(chunk, written)) from.pause();
  });
  to.on('drain', () => from.resume());
  from.once('end', () => {
    if (corked) flush();
    to.end(onEnd);
  });
  // It may have been accepted paused.
  from.resume();
}
