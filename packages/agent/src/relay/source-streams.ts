import { chmod, chown } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { describeError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { carry } from './carry.ts';
import { dialRelay } from './dial-relay.ts';
import { PooledSocket } from './pooled-socket.ts';
import { hearReady } from './readiness.ts';
import type { StreamKind } from './relay-tls.ts';
import { makeSocketDirectory, migrationSockets, removeSocketDirectory, unixUri } from './sockets.ts';

/** The destination's relay, as the peer's answer and the grant name it. */
interface RelayPeer {
  /** Where it is reached, best first. */
  readonly reachedAt: readonly string[];
  /** The answer's `relayPort`. */
  readonly port: number;
  readonly pins: readonly string[];
}

/** What the source's conductor opens its streams with. */
export interface SourceStreamsOptions {
  /** Of the grant; the streams' TLS server name. */
  readonly id: string;
  /** The VM's name. */
  readonly vm: string;
  /** The host's root, `/` outside tests. */
  readonly root: string;
  /** Whose processes QEMU's are here; null where nobody else than this process's user connects. */
  readonly qemu: { readonly uid: number; readonly gid: number } | null;
  readonly peer: RelayPeer;
  readonly identity: ChannelIdentity<'agent'>;
  /** Whether disks are copied, over an NBD stream of their own. */
  readonly disks: boolean;
  /** QEMU's connections at once at most, those of disks among them. */
  readonly streams: number;
  readonly dialTimeoutMs?: number;
  /** A stream that broke, in words for people; libvirt's own error says only that the connection ended. */
  readonly onBroken?: (reason: string) => void;
}

/** What carried the migration, for its proof. */
interface StreamsUsed {
  readonly peerPin: SpkiPin;
  /** Key exchange, such as X25519MLKEM768. */
  readonly group: string;
  /** Connections of QEMU's, or libvirtd's in its place, that were carried. */
  readonly streams: number;
}

/** The source's end of mode `pinned`. */
export interface SourceStreams {
  /** `migrate_uri` for Perform: where the source's QEMU or libvirtd connects. */
  readonly streamUri: string;
  /** `disks_uri` for Perform; null where no disks are copied. */
  readonly disksUri: string | null;
  /** `migrate_uri` for Prepare: where the destination's QEMU listens. */
  readonly destinationStreamUri: string;
  /** `disks_uri` for Prepare. */
  readonly destinationDisksUri: string | null;
  /** A new connection to the destination's libvirt through the filter; its bytes are libvirt's RPC from AUTH_LIST on. */
  rpc(): Promise<Duplex>;
  /** Null before the first connection. */
  used(): StreamsUsed | null;
  /** Cuts what still runs and removes the sockets. */
  close(): Promise<void>;
}

const DIAL_TIMEOUT_MS = 10_000;
/** QEMU's multifd has its channels and one besides; disks have one each, and one that probes. */
const BESIDES = 1;
const DISK_CONNECTIONS = 128;

/**
 * Opens the source's end of mode `pinned`: Unix sockets to which this host's libvirt and QEMU connect, each connection
 * carried by a TLS connection of its own to the destination's relay.
 */
export async function openStreams(options: SourceStreamsOptions): Promise<SourceStreams> {
  const streams = new Streams(options);
  await streams.open();
  return streams;
}

class Streams implements SourceStreams {
  readonly streamUri: string;
  readonly disksUri: string | null;
  readonly #options: SourceStreamsOptions;
  readonly #dialTimeoutMs: number;
  readonly #sockets: ReturnType<typeof migrationSockets>;
  readonly #servers: Server[] = [];
  readonly #open = new Set<Duplex>();
  /** Of these, QEMU's. */
  readonly #streams = new Set<Duplex>();
  #address: string | undefined;
  #peer: { readonly peerPin: SpkiPin; readonly group: string } | undefined;
  /** Settled once the destination's QEMU has its main connection, or never will. */
  #main: Promise<unknown> | undefined;
  #carried = 0;
  #closed = false;

  constructor(options: SourceStreamsOptions) {
    this.#options = options;
    this.#dialTimeoutMs = options.dialTimeoutMs ?? DIAL_TIMEOUT_MS;
    this.#sockets = migrationSockets(options.root, options.id, options.vm);
    this.streamUri = unixUri(this.#sockets.stream);
    this.disksUri = options.disks ? unixUri(this.#sockets.disks) : null;
  }

  /** Sockets lie at the same place on both hosts, but below the root of each. */
  get destinationStreamUri(): string {
    return unixUri(migrationSockets('/', this.#options.id, this.#options.vm).stream);
  }

  get destinationDisksUri(): string | null {
    const { id, vm, disks } = this.#options;
    return disks ? unixUri(migrationSockets('/', id, vm).disks) : null;
  }

  async open(): Promise<void> {
    const { streams, disks } = this.#options;
    await makeSocketDirectory(this.#sockets, 'root');
    try {
      await this.#listen(this.#sockets.stream, 'stream', streams + BESIDES);
      if (disks) await this.#listen(this.#sockets.disks, 'disks', DISK_CONNECTIONS);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async rpc(): Promise<Duplex> {
    const socket = await this.#dial('rpc');
    socket.once('error', (error) => {
      this.#broke(`libvirt's connection to the other host: ${error.message}`);
      // Without it nobody tells libvirt there that it is over, and QEMU here would wait for a host that is gone.
      for (const stream of this.#streams) stream.destroy();
    });
    return socket;
  }

  used(): StreamsUsed | null {
    return this.#peer === undefined ? null : { ...this.#peer, streams: this.#carried };
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const server of this.#servers) server.close();
    for (const stream of this.#open) stream.destroy();
    await removeSocketDirectory(this.#sockets);
  }

  async #listen(path: string, kind: 'stream' | 'disks', limit: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.maxConnections = limit;
    server.on('connection', (socket) => void this.#carry(socket, kind));
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    const { qemu } = this.#options;
    await chmod(path, 0o600);
    if (qemu !== null) await chown(path, qemu.uid, qemu.gid);
  }

  async #carry(accepted: Socket, kind: 'stream' | 'disks'): Promise<void> {
    const pooled = new PooledSocket(accepted);
    const local = pooled.socket;
    this.#keep(local);
    this.#streams.add(local);
    local.once('close', () => this.#streams.delete(local));
    local.on('error', () => {});
    try {
      const remote = await this.#connect(kind);
      this.#carried++;
      const error = await carry(pooled, remote);
      if (error !== undefined) this.#broke(`a ${kind} connection: ${error.message}`);
    } catch (error) {
      local.destroy();
      this.#broke(describeError(error));
    }
  }

  /**
   * A connection through to the destination's QEMU. QEMU makes its main connection first and those of multifd at once
   * after it, and before 8.0 it takes the first that arrives for the main one (migration_ioc_process_incoming).
   */
  async #connect(kind: 'stream' | 'disks'): Promise<TLSSocket> {
    const main = kind === 'stream' ? this.#main : undefined;
    const connected = (async () => {
      await main;
      const remote = await this.#dial(kind);
      await hearReady(remote, this.#dialTimeoutMs);
      return remote;
    })();
    if (kind === 'stream') this.#main ??= connected;
    return await connected;
  }

  async #dial(kind: StreamKind): Promise<TLSSocket> {
    const { id, identity, peer } = this.#options;
    const { socket, address, pin, group } = await dialRelay({
      id,
      kind,
      identity,
      pins: peer.pins,
      addresses: this.#address === undefined ? peer.reachedAt : [this.#address],
      port: peer.port,
      timeoutMs: this.#dialTimeoutMs,
    });
    this.#keep(socket);
    this.#address = address;
    this.#peer ??= { peerPin: pin, group };
    return socket;
  }

  #keep(stream: Duplex): void {
    if (this.#closed) stream.destroy();
    this.#open.add(stream);
    stream.once('close', () => this.#open.delete(stream));
  }

  #broke(reason: string): void {
    if (!this.#closed) this.#options.onBroken?.(reason);
  }
}
