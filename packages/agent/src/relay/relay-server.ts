import { type AddressInfo, connect, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { admitPeer } from '@virt-trust/channel/admission.ts';
import { PendingHandshakes } from '@virt-trust/channel/handshakes.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { peerAddress } from '@virt-trust/channel/peer-address.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { type RefusalReason, RefusalReporter } from '@virt-trust/channel/refusals.ts';
import { type Sleep, systemSleep } from '@virt-trust/channel/sleep.ts';
import { type Grant, RELAY_PORTS } from '@virt-trust/contract/model/grant.ts';
import { MigrationFilter, newMigrationCourse } from '@virt-trust/libvirt/migration-filter.ts';
import { carry } from './carry.ts';
import { policyOf } from './grant-policy.ts';
import { sayReady } from './readiness.ts';
import { STREAM_ALPN, type StreamKind, streamKindOf, streamTlsOptions, watchPeer } from './relay-tls.ts';
import { connectToQemu, type MigrationSockets } from './sockets.ts';

export interface RelayServerOptions {
  readonly grant: Grant;
  readonly identity: ChannelIdentity<'agent'>;
  readonly sockets: MigrationSockets;
  /** Where this host's libvirt listens. */
  readonly libvirtSocket: string;
  readonly clock: Clock;
  /** A connection that was refused before any byte of it was read, in words. */
  readonly onRefused: (remoteAddress: string, reason: string, suppressed: number) => void;
  /** The source tried what it may not: everything was cut. */
  readonly onCutOff: (reason: string) => void;
  /** A connection came or went. */
  readonly onChange?: () => void;
  readonly ports?: { readonly min: number; readonly max: number };
  readonly sleep?: Sleep;
}

const HANDSHAKE_MS = 10_000;
const MAX_PENDING = 32;
/** Connections to libvirt at a time: one for the migration, one of a source that comes again. */
const RPC_LIMIT = 2;
const HIGH_WATER_MARK = 256 * 1024;

/** The destination's end of mode `pinned`: takes the streams of one grant's peer to this host's libvirt and QEMU. */
export class RelayServer {
  readonly #options: RelayServerOptions;
  readonly #server: Server;
  readonly #pending: PendingHandshakes;
  readonly #refusals: RefusalReporter;
  readonly #peers: PinSet<'agent'>;
  readonly #addresses: ReadonlySet<string>;
  readonly #course = newMigrationCourse();
  readonly #open = new Map<TLSSocket, StreamKind>();
  #carried = 0;
  #closed = false;

  private constructor(options: RelayServerOptions) {
    this.#options = options;
    const { grant, clock, identity, sleep = systemSleep } = options;
    this.#peers = new PinSet('agent', grant.peer.pins);
    this.#addresses = new Set(grant.peer.addresses.map((address) => peerAddress(address)));
    const report = options.onRefused;
    this.#refusals = new RefusalReporter(
      ({ remoteAddress, reason, suppressed }) => report(remoteAddress, describeReason(reason), suppressed),
      clock,
      30,
    );
    this.#pending = new PendingHandshakes(
      { maxPending: MAX_PENDING, deadlineMs: HANDSHAKE_MS, sleep },
      (address, kind) => this.#refusals.refuse(address, { kind }),
    );
    this.#server = createServer({
      ...streamTlsOptions(identity),
      requestCert: true,
      // Nobody signs these certificates; admitPeer decides by the key.
      rejectUnauthorized: false,
      ALPNProtocols: grant.operations.flatMap((operation) =>
        isStreamKind(operation) ? [STREAM_ALPN[operation]] : [],
      ),
      handshakeTimeout: HANDSHAKE_MS,
      allowHalfOpen: true,
      highWaterMark: HIGH_WATER_MARK,
    });
    // SECURITY: no resumeSession listener, ever: with one, tickets would be honoured.
    this.#server.on('connection', (socket: Socket) => this.#accept(socket));
    this.#server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      if (this.#pending.finish(socket))
        this.#refuse(socket, { kind: 'handshake', detail: error.code ?? error.message });
      socket.destroy();
    });
    this.#server.on('secureConnection', (socket) => this.#admit(socket));
  }

  /** Listens on the first free port of the relays'; throws `relay.no_port`, `grant.not_pinned`. */
  static async listen(options: RelayServerOptions): Promise<RelayServer> {
    if (options.grant.vm === null || options.grant.mode !== 'pinned')
      throw new TrustError(
        'grant.not_pinned',
        'conflict',
        'cannot relay: the grant is for no pinned migration',
      );
    const relay = new RelayServer(options);
    const { min, max } = options.ports ?? RELAY_PORTS;
    for (let port = min; port <= max; port++) if (await relay.#tryPort(port)) return relay;
    throw new TrustError(
      'relay.no_port',
      'unavailable',
      `cannot take the streams of a migration: TCP ports ${min} to ${max} are all taken`,
      { hint: 'See what holds them: ss -tlnp' },
    );
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections that are open now, and QEMU's that there ever were. */
  get use(): { readonly open: number; readonly carried: number } {
    return { open: this.#open.size, carried: this.#carried };
  }

  /** Whether the migration has begun: libvirt was asked to prepare it. */
  get hasBegun(): boolean {
    return this.#course.prepared;
  }

  /** Cuts everything and listens no more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#pending.clear();
    for (const socket of this.#open.keys()) socket.destroy();
    if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #tryPort(port: number): Promise<boolean> {
    for (const host of ['::', '0.0.0.0']) {
      const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
        this.#server.once('error', resolve);
        this.#server.listen({ host, port }, () => {
          this.#server.removeAllListeners('error');
          this.#server.on('error', () => {});
          resolve(undefined);
        });
      });
      if (error === undefined) return true;
      // A host whose kernel has no IPv6 is tried with IPv4.
      if (error.code === 'EADDRINUSE') return false;
    }
    return false;
  }

  #accept(socket: Socket): void {
    const reason = this.#addresses.has(peerAddress(socket.remoteAddress))
      ? this.#lateReason()
      : ({ kind: 'address' } as const);
    if (reason === undefined) {
      this.#pending.add(socket);
      return;
    }
    this.#refuse(socket, reason);
    socket.destroy();
  }

  #admit(socket: TLSSocket): void {
    socket.on('error', () => {});
    if (!this.#pending.finish(socket)) {
      socket.destroy();
      return;
    }
    // SECURITY: nothing may be awaited between here and the hand-over; not one byte is read before the check.
    const kind = streamKindOf(socket.alpnProtocol);
    const admission = admitPeer(socket, kind === undefined ? '' : STREAM_ALPN[kind], this.#peers);
    const reason =
      admission.kind === 'refused'
        ? admission.refusal
        : (this.#lateReason(kind) ?? this.#excessReason(socket, kind));
    if (reason !== undefined || kind === undefined) {
      if (reason !== undefined) this.#refuse(socket, reason);
      socket.destroy();
      return;
    }
    watchPeer(socket);
    // Two pipelines listen to more of it than Node takes for sane.
    socket.setMaxListeners(0);
    this.#open.set(socket, kind);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#options.onChange?.();
    });
    this.#options.onChange?.();
    if (kind === 'rpc') void this.#relayRpc(socket);
    else void this.#relayStream(socket, kind);
  }

  /**
   * SECURITY: asked at accept and again after the handshake; a connection that began before stays. After its grant's time
   * a migration that has begun opens what it needs still: its memory goes once its disks are copied, hours later.
   */
  #lateReason(kind?: StreamKind): RefusalReason | undefined {
    const { clock, grant } = this.#options;
    if (this.#closed) return { kind: 'internal', detail: 'the relay ends' };
    if (clock.now() <= grant.notAfter || (this.hasBegun && kind !== 'rpc')) return undefined;
    return { kind: 'internal', detail: 'the grant expired' };
  }

  #excessReason(socket: TLSSocket, kind: StreamKind | undefined): RefusalReason | undefined {
    const { grant } = this.#options;
    if ((socket as TLSSocket & { servername?: string | false }).servername !== grant.id)
      return { kind: 'internal', detail: 'it names another grant' };
    const open = [...this.#open.values()].filter((each) => each === kind).length;
    return kind !== undefined && open >= this.#limit(kind) ? { kind: 'too-often' } : undefined;
  }

  #limit(kind: StreamKind): number {
    const { grant } = this.#options;
    switch (kind) {
      case 'rpc':
        return RPC_LIMIT;
      case 'stream':
        // QEMU's multifd has its channels and one besides.
        return grant.streams + 1;
      case 'disks':
        return 2 * Math.max(1, grant.vm?.copiedDisks.length ?? 0);
    }
  }

  async #relayRpc(socket: TLSSocket): Promise<void> {
    const { grant, sockets, clock } = this.#options;
    const filter = new MigrationFilter(policyOf(grant, sockets, clock), this.#course);
    const libvirt = connect({ path: this.#options.libvirtSocket });
    try {
      await Promise.all([
        pipeline(
          socket,
          through((bytes) => filter.fromSource(bytes)),
          libvirt,
        ),
        pipeline(
          libvirt,
          through((bytes) => filter.fromLibvirt(bytes)),
          socket,
        ),
      ]);
    } catch (error) {
      // SECURITY: a source that tries more than the grant lets it loses all that it has.
      if (isTrustError(error, 'migration.cut_off')) this.#cutOff(error.message);
    } finally {
      socket.destroy();
      libvirt.destroy();
    }
  }

  async #relayStream(socket: TLSSocket, kind: 'stream' | 'disks'): Promise<void> {
    const { sockets } = this.#options;
    this.#carried++;
    let qemu: Socket;
    try {
      qemu = await connectToQemu(kind === 'stream' ? sockets.stream : sockets.disks);
    } catch {
      // QEMU listens no more, or not yet; the source's end says that it was cut.
      socket.destroy();
      return;
    }
    if (socket.destroyed) {
      qemu.destroy();
      return;
    }
    qemu.once('connect', () => sayReady(socket));
    await carry(socket, qemu);
  }

  #cutOff(reason: string): void {
    if (this.#closed) return;
    void this.close();
    this.#options.onCutOff(reason);
  }

  #refuse(socket: Socket, reason: RefusalReason): void {
    this.#refusals.refuse(peerAddress(socket.remoteAddress) || 'unknown', reason);
  }
}

function isStreamKind(operation: string): operation is StreamKind {
  return operation === 'rpc' || operation === 'stream' || operation === 'disks';
}

function through(judge: (bytes: Uint8Array) => Uint8Array): Transform {
  return new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      try {
        done(null, judge(chunk));
      } catch (error) {
        done(error instanceof Error ? error : new Error(describeError(error)));
      }
    },
  });
}

function describeReason(reason: RefusalReason): string {
  switch (reason.kind) {
    case 'address':
      return 'the address is not one of the grant';
    case 'untrusted-pin':
      return `its key ${reason.pin} is not that of the grant`;
    case 'handshake':
    case 'internal':
      return reason.detail;
    default:
      return reason.kind;
  }
}
