import { once } from 'node:events';
import type { TLSSocket } from 'node:tls';
import { openTls, type Place, type Served, servedBy } from './viewer.ts';

const PATIENCE_MS = 60_000;

/** A VNC session (RFC 6143) within TLS that stays open, as a person's who looks at a console. */
export class ConsoleSession implements Disposable {
  readonly #socket: TLSSocket;
  #received = Buffer.alloc(0);
  #pixelBytes = 0;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
    });
    socket.on('error', () => {});
  }

  /** Opens it up to where pictures can be asked for; throws where chain or name are wrong. */
  static async open(place: Omit<Place, 'protocol'>): Promise<ConsoleSession> {
    const session = new ConsoleSession(await openTls({ ...place, protocol: 'vencrypt' }));
    const result = (await session.#take(4)).readUInt32BE();
    if (result !== 0) throw new Error(`the VNC server refuses us: security result ${result}`);
    // ClientInit: others may look too.
    session.#socket.write(Uint8Array.of(1));
    const init = await session.#take(24);
    session.#pixelBytes = init.readUInt8(4) / 8;
    await session.#take(init.readUInt32BE(20));
    return session;
  }

  get served(): Served {
    return servedBy(this.#socket);
  }

  /** Asks for one pixel of the screen; throws where nothing comes. */
  async answers(): Promise<void> {
    // FramebufferUpdateRequest, not incremental: the server must answer.
    this.#socket.write(Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 1, 0, 1));
    const head = await this.#take(4);
    if (head[0] !== 0) throw new Error(`the VNC server answers with message ${head[0]}, not with an update`);
    // To its end, which may come much later: what is left of it would be taken for the next answer.
    for (let left = head.readUInt16BE(2); left > 0; left--) {
      const rectangle = await this.#take(12);
      const encoding = rectangle.readInt32BE(8);
      if (encoding !== 0)
        throw new Error(`the VNC server sends encoding ${encoding}, which nobody asked for`);
      await this.#take(rectangle.readUInt16BE(4) * rectangle.readUInt16BE(6) * this.#pixelBytes);
    }
  }

  async #take(length: number): Promise<Buffer> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (this.#received.length < length) {
      if (this.#socket.closed) throw new Error('the VNC server closed the session');
      const came = new AbortController();
      const either = { signal: AbortSignal.any([signal, came.signal]) };
      await Promise.race([once(this.#socket, 'data', either), once(this.#socket, 'close', either)]);
      came.abort();
    }
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
