import { once } from 'node:events';
import type { TLSSocket } from 'node:tls';
import { openTls, type Place, type Served, servedBy } from './viewer.ts';

const PATIENCE_MS = 60_000;

/** A VNC session (RFC 6143) within TLS that stays open, as a person's who looks at a console. */
export class ConsoleSession implements Disposable {
  readonly #socket: TLSSocket;
  #received = Buffer.alloc(0);

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
    await session.#take(init.readUInt32BE(20));
    return session;
  }

  get served(): Served {
    return servedBy(this.#socket);
  }

  /** Asks for one pixel of the screen; throws where nothing comes. */
  async answers(): Promise<void> {
    this.#received = Buffer.alloc(0);
    // FramebufferUpdateRequest, not incremental: the server must answer.
    this.#socket.write(Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 1, 0, 1));
    const [type] = await this.#take(1);
    if (type !== 0) throw new Error(`the VNC server answers with message ${type}, not with an update`);
  }

  async #take(length: number): Promise<Buffer> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (this.#received.length < length) {
      if (this.#socket.closed) throw new Error('the VNC server closed the session');
      await Promise.race([once(this.#socket, 'data', { signal }), once(this.#socket, 'close', { signal })]);
    }
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
