import type { Duplex } from 'node:stream';
import { TrustError } from '@virt-trust/base/error.ts';
import {
  authList,
  connectClose,
  connectOpen,
  connectSupportsFeature,
  DRIVER_FEATURES,
  type Procedure,
  RPC_PACKET_LIMIT,
  RPC_PROGRAMS,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { encodePacket, type RpcPacket, RpcPacketReader, readRemoteError } from '@virt-trust/libvirt/rpc.ts';
import { decodeWhole } from '@virt-trust/libvirt/xdr-codec.ts';

/** As libvirt's own client has it (`keepalive_interval`, `keepalive_count`): a dead peer is noticed within 30 s. */
const KEEPALIVE_MS = 5000;
const KEEPALIVE_COUNT = 5;
const PING = 1;
const PONG = 2;
const CALL = 0;
const REPLY = 1;
const MESSAGE = 2;
const AUTH_POLKIT_TYPE = 2;
const URI = 'qemu:///system';
const CLOSE_MS = 2000;
const OPEN_MS = 10_000;

interface Pending {
  readonly procedure: Procedure<unknown, unknown>;
  resolve(payload: Uint8Array): void;
  reject(error: unknown): void;
}

/** Where libvirt's own error stands in an error of a call. */
export interface LibvirtErrorContext {
  readonly code: number;
  readonly domain: number;
}

export interface RpcClientOptions {
  /** Whose libvirt it is, for people. */
  readonly where: string;
  readonly keepaliveMs?: number;
}

/** A client of libvirt's RPC over any stream of bytes: several calls at once, and keep-alives both ways. */
export class RpcClient {
  readonly where: string;
  readonly #stream: Duplex;
  readonly #reader = new RpcPacketReader(RPC_PACKET_LIMIT);
  readonly #pending = new Map<number, Pending>();
  readonly #lost = Promise.withResolvers<TrustError>();
  readonly #keepaliveMs: number;
  #timer: NodeJS.Timeout | undefined;
  #serial = 0;
  #silent = 0;
  #end: TrustError | undefined;

  constructor(stream: Duplex, { where, keepaliveMs = KEEPALIVE_MS }: RpcClientOptions) {
    this.#stream = stream;
    this.where = where;
    this.#keepaliveMs = keepaliveMs;
    stream.on('data', (chunk: Uint8Array) => this.#receive(chunk));
    stream.once('end', () => this.#break('it closed the connection'));
    stream.once('error', (cause) => this.#break('the connection broke', cause));
    stream.once('close', () => this.#break('the connection is closed'));
  }

  /** Opens `qemu:///system` with what a migration needs; throws `libvirt.*`. */
  static async open(stream: Duplex, options: RpcClientOptions): Promise<RpcClient> {
    const client = new RpcClient(stream, options);
    // A daemon that stands still takes connections all the same.
    const bound = setTimeout(() => client.#break(`no answer within ${OPEN_MS / 1000} s`), OPEN_MS);
    try {
      const { types } = await client.call(authList, {});
      const [way] = types;
      if (way !== undefined && way !== 0) throw demandsMore(options.where, way);
      await client.call(connectOpen, { uri: URI, flags: 0 });
      if (await client.supports('programKeepalive')) client.#keepAlive();
      return client;
    } catch (error) {
      stream.destroy();
      throw error;
    } finally {
      clearTimeout(bound);
    }
  }

  /** Resolves with the reason when the connection is lost or closed. */
  get lost(): Promise<TrustError> {
    return this.#lost.promise;
  }

  get isLost(): boolean {
    return this.#end !== undefined;
  }

  /**
   * One call. Throws `libvirt.error` with libvirt's words where it answered with an error, and `libvirt.lost` where
   * the connection ended before an answer: whether the call was done is not known then.
   */
  async call<Args, Result>(procedure: Procedure<Args, Result>, args: Args): Promise<Result> {
    if (this.#end !== undefined) throw this.#end;
    const payload = procedure.args.encode(args);
    const serial = ++this.#serial;
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    this.#pending.set(serial, { procedure: procedure as Procedure<unknown, unknown>, resolve, reject });
    const { program, number } = procedure;
    this.#send({ program, version: 1, procedure: number, type: CALL, serial, status: 0, payload });
    return decodeWhole(procedure.result, await promise);
  }

  async supports(feature: keyof typeof DRIVER_FEATURES): Promise<boolean> {
    const { supported } = await this.call(connectSupportsFeature, { feature: DRIVER_FEATURES[feature] });
    return supported > 0;
  }

  /** Takes leave of libvirt, who ends what belongs to the connection, then closes. */
  async close(): Promise<void> {
    if (this.#end === undefined) {
      const bound = setTimeout(() => this.destroy(), CLOSE_MS);
      await this.call(connectClose, {}).catch(() => {});
      clearTimeout(bound);
    }
    this.destroy();
  }

  destroy(): void {
    this.#break('the connection was closed here');
  }

  #keepAlive(): void {
    this.#timer = setInterval(() => {
      if (++this.#silent > KEEPALIVE_COUNT)
        this.#break(`it did not answer for ${(this.#keepaliveMs * KEEPALIVE_COUNT) / 1000} s`);
      else this.#sendKeepalive(PING);
    }, this.#keepaliveMs);
    this.#timer.unref();
  }

  #sendKeepalive(procedure: number): void {
    const program = RPC_PROGRAMS.keepalive;
    const payload = new Uint8Array();
    this.#send({ program, version: 1, procedure, type: MESSAGE, serial: 0, status: 0, payload });
  }

  #send(packet: RpcPacket): void {
    if (this.#end === undefined) this.#stream.write(encodePacket(packet));
  }

  #receive(chunk: Uint8Array): void {
    if (this.#end !== undefined) return;
    this.#silent = 0;
    try {
      for (const packet of this.#reader.push(chunk)) this.#handle(packet);
    } catch (cause) {
      this.#break('it sent what is none of its protocol', cause);
    }
  }

  #handle(packet: RpcPacket): void {
    if (packet.program === RPC_PROGRAMS.keepalive) {
      if (packet.procedure === PING) this.#sendKeepalive(PONG);
      return;
    }
    // Events and streams are not asked for.
    if (packet.type !== REPLY) return;
    const pending = this.#pending.get(packet.serial);
    const { procedure } = pending ?? {};
    if (
      pending === undefined ||
      procedure?.number !== packet.procedure ||
      procedure.program !== packet.program
    )
      throw new TrustError(
        'rpc.malformed',
        'failed',
        `cannot read libvirt's message: an answer to call ${packet.serial} of procedure ${packet.procedure}, which was not made`,
      );
    this.#pending.delete(packet.serial);
    if (packet.status === 0) pending.resolve(packet.payload);
    else pending.reject(this.#errorOf(packet.payload));
  }

  #errorOf(payload: Uint8Array): TrustError<LibvirtErrorContext> {
    const { code, domain, message } = readRemoteError(payload);
    return new TrustError('libvirt.error', 'failed', message, { context: { code, domain } });
  }

  #break(reason: string, cause?: unknown): void {
    if (this.#end !== undefined) return;
    clearInterval(this.#timer);
    this.#end = new TrustError(
      'libvirt.lost',
      'unavailable',
      `cannot reach libvirt of ${this.where}: ${reason}`,
      cause === undefined ? {} : { cause },
    );
    for (const { reject } of this.#pending.values()) reject(this.#end);
    this.#pending.clear();
    this.#lost.resolve(this.#end);
    this.#stream.destroy();
  }
}

function demandsMore(where: string, way: number): TrustError {
  const name = way === AUTH_POLKIT_TYPE ? 'polkit' : way === 1 ? 'SASL' : `way ${way}`;
  return new TrustError(
    'libvirt.authentication',
    'denied',
    `cannot use libvirt of ${where}: it demands authentication by ${name}`,
    { hint: `let it take this host without: auth_tcp or auth_tls = "none" in its libvirtd.conf` },
  );
}
