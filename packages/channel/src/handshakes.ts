import type { Socket } from 'node:net';
import type { Sleep } from './sleep.ts';

export interface HandshakeBounds {
  /** Unfinished handshakes at one time; beyond it the oldest is dropped. */
  readonly maxPending: number;
  /** Time from TCP accept to a finished TLS handshake. */
  readonly deadlineMs: number;
  readonly sleep: Sleep;
}

interface Pending {
  readonly socket: Socket;
  readonly done: AbortController;
}

/**
 * The connections that have not proved who they are. Each has one deadline for the whole handshake, which bytes do
 * not extend; when there are too many the OLDEST goes, so that somebody who holds connections open cannot keep a
 * manager out.
 */
export class PendingHandshakes {
  readonly #bounds: HandshakeBounds;
  readonly #onDropped: (remoteAddress: string, kind: 'handshake-timeout' | 'crowded-out') => void;
  /** In order of arrival. */
  readonly #pending = new Map<string, Pending>();

  constructor(
    bounds: HandshakeBounds,
    onDropped: (remoteAddress: string, kind: 'handshake-timeout' | 'crowded-out') => void,
  ) {
    this.#bounds = bounds;
    this.#onDropped = onDropped;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Takes a connection that was just accepted. */
  add(socket: Socket): void {
    // Already gone again; it would have no key.
    if (socket.remoteAddress === undefined) {
      socket.destroy();
      return;
    }
    const key = keyOf(socket);
    const entry: Pending = { socket, done: new AbortController() };
    this.#finish(key);
    this.#pending.set(key, entry);
    socket.once('close', () => {
      if (this.#pending.get(key) === entry) this.#finish(key);
    });
    const [oldest] = this.#pending;
    if (oldest !== undefined && this.#pending.size > this.#bounds.maxPending) {
      this.#drop(oldest[0], oldest[1], 'crowded-out');
    }
    this.#bounds.sleep(this.#bounds.deadlineMs, entry.done.signal).then(
      () => this.#drop(key, entry, 'handshake-timeout'),
      () => {},
    );
  }

  /** Says that the handshake over this connection is over; false if it was dropped before. */
  finish(socket: Socket): boolean {
    return this.#finish(keyOf(socket));
  }

  /** Drops all. */
  clear(): void {
    for (const [key, { socket }] of this.#pending) {
      this.#finish(key);
      socket.destroy();
    }
  }

  #finish(key: string): boolean {
    const entry = this.#pending.get(key);
    entry?.done.abort();
    return this.#pending.delete(key);
  }

  #drop(key: string, entry: Pending, kind: 'handshake-timeout' | 'crowded-out'): void {
    if (this.#pending.get(key) !== entry) return;
    this.#finish(key);
    const remoteAddress = entry.socket.remoteAddress ?? 'unknown';
    entry.socket.destroy();
    this.#onDropped(remoteAddress, kind);
  }
}

/** The TLS socket and the TCP socket below it share their addresses and ports, and nothing else that is public. */
function keyOf(socket: Socket): string {
  return `${socket.localAddress} ${socket.remoteAddress} ${socket.remotePort}`;
}
