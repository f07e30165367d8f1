import type { Duplex } from 'node:stream';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';

/** The destination's relay, as the peer's answer and the grant name it. */
export interface RelayPeer {
  /** Where it is reached, best first. */
  readonly reachedAt: readonly string[];
  /** The answer's `relayPort`. */
  readonly port: number;
  readonly pins: readonly string[];
}

export interface SourceStreamsOptions {
  /** Of the grant; the streams' TLS server name. */
  readonly id: string;
  /** The host's root, `/` outside tests. */
  readonly root: string;
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
export interface StreamsUsed {
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
