import { Socket, type SocketConstructorOpts } from 'node:net';
import type { Writable } from 'node:stream';

/** Four of libuv's own reads at a time, of which each would be an event and a write of its own. */
const SIZE = 128 * 1024;
/** Read into at a time: one that is being written, and one that waits for it. */
const COUNT = 2;

/** What Node keeps of a connection below its stream, which nothing else than the stream may use. */
interface Accepted {
  _handle: unknown;
}

/** An accepted connection whose reads go into memory that is used again and again, and is never copied or collected. */
export class PooledSocket {
  /** Takes the place of the accepted one; each ends with the other. */
  readonly socket: Socket;
  readonly #free: Uint8Array[] = [];
  /** Buffers whose octets are not written yet. */
  #waiting = 0;
  #isStopped = false;
  #to: Writable | undefined;

  /** Takes over a connection that was accepted paused (`pauseOnConnect`), and of which nothing was read. */
  constructor(accepted: Socket) {
    // Node lets `onread` be given to connections that are made, and not to those that are accepted.
    const before = accepted as unknown as Accepted;
    const options: Omit<SocketConstructorOpts, 'handle'> & { handle: unknown; pauseOnCreate: boolean } = {
      handle: before._handle,
      allowHalfOpen: true,
      pauseOnCreate: true,
      onread: {
        buffer: () => this.#free.pop() ?? new Uint8Array(SIZE),
        callback: (octets, buffer) => this.#read(buffer, octets),
      },
    };
    this.socket = new Socket(options as SocketConstructorOpts);
    before._handle = null;
    // The server counts connections by the accepted one.
    this.socket.once('close', () => accepted.destroy());
    accepted.once('close', () => this.socket.destroy());
  }

  /** Writes all that is read, from now on, and ends the other stream after it. */
  pour(to: Writable, onEnd: () => void): void {
    this.#to = to;
    this.socket.once('end', () => to.end(onEnd));
    this.socket.resume();
  }

  /** False where nothing more is to be read for now. */
  #read(buffer: Uint8Array, octets: number): boolean {
    this.#waiting++;
    // SECURITY: memory is read into again only once its octets were written; after a failed write, never.
    this.#to?.write(buffer.subarray(0, octets), (error) => {
      if (error) return;
      this.#waiting--;
      this.#free.push(buffer);
      if (!this.#isStopped) return;
      this.#isStopped = false;
      this.socket.resume();
    });
    this.#isStopped = this.#waiting >= COUNT;
    return !this.#isStopped;
  }
}
