import { isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { MIGRATE_FLAGS, MIGRATE_PARAMETER_NAMES } from '@virt-trust/libvirt/migration-protocol.ts';
import type { TypedParameter } from '@virt-trust/libvirt/typed-params.ts';

/** MiB/s at which a stream begins, until it was seen what carries it: a small VM would be over before anybody looked. */
const HELD_MIB = 1n;

/** Where QEMU's streams of a migration go, as each side's libvirt is told. */
export interface StreamUris {
  /** What the source's QEMU connects to. */
  readonly source: string;
  /** What the destination's QEMU listens on. */
  readonly destination: string;
  readonly sourceDisks: string | null;
  readonly destinationDisks: string | null;
}

/** Flags that virsh's way of migrating has no use for; they would have libvirt itself connect to the destination. */
const FOREIGN_FLAGS = MIGRATE_FLAGS.peerToPeer | MIGRATE_FLAGS.tunnelled | MIGRATE_FLAGS.postCopyResume;

/** libvirt's flags for an order (`virDomainMigrateFlags`). Throws `migration.flags`. */
export function migrationFlags({
  vm,
  mode,
  options,
}: Pick<MigrationOrder, 'vm' | 'mode' | 'options'>): number {
  const { flags } = options;
  if ((flags & FOREIGN_FLAGS) !== 0)
    throw new TrustError(
      'migration.flags',
      'invalid',
      `cannot migrate ${vm} with flags 0x${flags.toString(16)}: peer-to-peer, tunnelled and resumed migrations are not conducted`,
    );
  const on = (condition: boolean, flag: number) => (condition ? flag : 0);
  const offline = options.offline || (flags & MIGRATE_FLAGS.offline) !== 0;
  const own =
    // Without its protection the VM could be changed, or migrated again, between two of our calls: added by phase.
    flags & ~MIGRATE_FLAGS.changeProtection;
  if (offline) {
    // libvirt takes no VM that is off without its definition, and copies no disks with it.
    const kept = MIGRATE_FLAGS.offline | MIGRATE_FLAGS.persistDestination;
    return (
      (own & ~MIGRATE_FLAGS.live) |
      kept |
      on(options.undefineSource, MIGRATE_FLAGS.undefineSource) |
      on(mode === 'tls', MIGRATE_FLAGS.tls)
    );
  }
  return (
    own |
    on(options.live, MIGRATE_FLAGS.live) |
    on(options.persistent, MIGRATE_FLAGS.persistDestination) |
    on(options.undefineSource, MIGRATE_FLAGS.undefineSource) |
    on(options.copyStorage === 'all', MIGRATE_FLAGS.nonSharedDisk) |
    on(options.copyStorage === 'inc', MIGRATE_FLAGS.nonSharedIncremental) |
    on(mayPostCopy(options), MIGRATE_FLAGS.postCopy) |
    on(options.parallel > 0, MIGRATE_FLAGS.parallel) |
    on(options.compression !== 'none', MIGRATE_FLAGS.compressed) |
    on(options.autoConverge, MIGRATE_FLAGS.autoConverge) |
    on(mode === 'tls', MIGRATE_FLAGS.tls)
  );
}

/** Whether the migration may come to run on the destination before its memory is there. */
function mayPostCopy(options: MigrationOrder['options']): boolean {
  return options.postCopy || (options.timeoutSeconds > 0 && options.timeoutAction === 'post-copy');
}

/**
 * Whether the stream begins slowly so that what carries it is seen. Through agents' streams it is known anyway, and disks
 * would keep the speed at which they began (qemuMigrationSrcNBDStorageCopy); they give time enough to look.
 */
export function isHeld({ mode, options }: Pick<MigrationOrder, 'mode' | 'options'>): boolean {
  return mode !== 'pinned' && options.copyStorage === 'none';
}

/** libvirt's parameters for an order at one of its ends (`VIR_MIGRATE_PARAM_*`). */
export function migrationParameters(
  order: Pick<MigrationOrder, 'mode' | 'options' | 'stream'>,
  streams: StreamUris,
  end: 'source' | 'destination',
): TypedParameter[] {
  const { options, stream } = order;
  const N = MIGRATE_PARAMETER_NAMES;
  const text = (name: string, value: string | null | undefined): TypedParameter[] =>
    value === null || value === undefined ? [] : [{ name, kind: 'string', value }];
  const disks = end === 'source' ? streams.sourceDisks : streams.destinationDisks;
  const copies = options.copyStorage !== 'none' && !options.offline;
  const bandwidth = isHeld(order) ? HELD_MIB : BigInt(options.bandwidthMiB);
  return [
    ...text(N.uri, end === 'source' ? streams.source : streams.destination),
    ...(copies ? text(N.disksUri, disks) : []),
    ...(copies ? options.copyDisks.flatMap((disk) => text(N.migrateDisks, disk)) : []),
    ...text(N.listenAddress, stream?.listenAddress),
    ...(order.mode === 'tls' ? text(N.tlsDestination, verifiedName(order)) : []),
    ...(bandwidth > 0n ? [{ name: N.bandwidth, kind: 'ullong', value: bandwidth } as const] : []),
    // A bound of its own in QEMU, which has none by default; what the VM waits for goes past it.
    ...(options.bandwidthMiB > 0 && mayPostCopy(options)
      ? [{ name: N.bandwidthPostCopy, kind: 'ullong', value: BigInt(options.bandwidthMiB) } as const]
      : []),
    ...(options.compression === 'none' ? [] : text(N.compression, options.compression)),
    ...(options.parallel === 0
      ? []
      : [{ name: N.parallelConnections, kind: 'int', value: options.parallel } as const]),
  ];
}

/**
 * Whom the source's QEMU verifies; where nobody is named, the host of the URI. Of parallel connections libvirt leaves that
 * to QEMU and has the disks' verify the empty name in its place (qemuMigrationSrcRun): there it is named.
 */
function verifiedName({ options, stream }: Pick<MigrationOrder, 'options' | 'stream'>): string | null {
  const isLeftEmpty = options.parallel > 0 && options.copyStorage !== 'none';
  return stream?.tlsDestination ?? (isLeftEmpty ? (stream?.address ?? null) : null);
}

/** The URIs of a stream that goes over TCP from QEMU to QEMU. */
export function tcpStreams(stream: NonNullable<MigrationOrder['stream']>): StreamUris {
  const uri = `tcp://${uriHost(stream.address)}`;
  return { source: uri, destination: uri, sourceDisks: null, destinationDisks: null };
}

function uriHost(address: string): string {
  return isIP(address) === 6 ? `[${address}]` : address;
}
