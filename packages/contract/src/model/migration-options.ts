import Type, { type Static } from 'typebox';
import { Count, Line } from './primitives.ts';

const strict = { additionalProperties: false };

/**
 * How a migration is protected: `tls`, libvirt's and QEMU's own TLS; `pinned`, one channel between the two agents and no
 * libvirt PKI; `plain`, nothing.
 */
export const MigrationMode = Type.Union([Type.Literal('tls'), Type.Literal('pinned'), Type.Literal('plain')]);
export type MigrationMode = Static<typeof MigrationMode>;
export const MIGRATION_MODES: readonly MigrationMode[] = ['tls', 'pinned', 'plain'];

/** Which disks go along: none (they are shared), each whole, or what differs from a base that both hosts have. */
const CopyStorage = Type.Union([Type.Literal('none'), Type.Literal('all'), Type.Literal('inc')]);

export const Compression = Type.Union([
  Type.Literal('none'),
  Type.Literal('xbzrle'),
  Type.Literal('mt'),
  Type.Literal('zlib'),
  Type.Literal('zstd'),
]);
export type Compression = Static<typeof Compression>;

/** What is done with a migration that takes longer than its time: ended, or finished with the VM paused or by post-copy. */
export const TimeoutAction = Type.Union([
  Type.Literal('abort'),
  Type.Literal('suspend'),
  Type.Literal('post-copy'),
]);
export type TimeoutAction = Static<typeof TimeoutAction>;

/** A disk as a VM's XML names it: vda, sdb. */
export const DISK_TARGET = '^[a-z]{1,8}[0-9]{0,4}$';

const OPTIONS = {
  /** False: the VM stands still from the start of the transfer to its end. */
  live: Type.Boolean(),
  /** Only the definition of a VM that is off. */
  offline: Type.Boolean(),
  /** Defined on the destination, too: `VIR_MIGRATE_PERSIST_DEST`. */
  persistent: Type.Boolean(),
  undefineSource: Type.Boolean(),
  copyStorage: CopyStorage,
  /** Targets such as vda that are copied; empty: every disk that libvirt finds fit. */
  copyDisks: Type.Array(Type.String({ pattern: DISK_TARGET }), { maxItems: 64 }),
  /** Switches to post-copy after the first pass. */
  postCopy: Type.Boolean(),
  /** Connections of QEMU's multifd; 0 for one stream without it. */
  parallel: Type.Integer({ minimum: 0, maximum: 64 }),
  compression: Compression,
  autoConverge: Type.Boolean(),
  /** Of the stream; 0 for as fast as the network goes. */
  bandwidthMiB: Type.Integer({ minimum: 0, maximum: 1_000_000 }),
  /** Longest pause at the end; 0 for QEMU's own. */
  downtimeMs: Type.Integer({ minimum: 0, maximum: 2_000_000 }),
  /** 0: none. */
  timeoutSeconds: Type.Integer({ minimum: 0, maximum: 604_800 }),
  timeoutAction: TimeoutAction,
  /** Added to libvirt's flags as they are (`virDomainMigrateFlags`). */
  flags: Type.Integer({ minimum: 0, maximum: 0x7fff_ffff }),
};

/** How a VM is migrated, in full. */
export const MigrationOptions = Type.Object(OPTIONS, strict);
export type MigrationOptions = Static<typeof MigrationOptions>;

/** What an operator says of it; the rest is as the settings have it. */
export const MigrationWish = Type.Partial(Type.Object(OPTIONS, strict), strict);
export type MigrationWish = Static<typeof MigrationWish>;

/** Memory or disks under way, in bytes. */
const Amount = Type.Object({ totalBytes: Count, processedBytes: Count, remainingBytes: Count }, strict);

/** As libvirt's job statistics have it; what QEMU does not say is null. */
export const MigrationProgress = Type.Object(
  {
    /** 0 to 100. */
    percent: Type.Number({ minimum: 0, maximum: 100 }),
    processedBytes: Count,
    remainingBytes: Count,
    totalBytes: Count,
    bytesPerSecond: Count,
    memory: Type.Union([Amount, Type.Null()]),
    disk: Type.Union([Amount, Type.Null()]),
    /** The pass over memory, from 1. */
    iteration: Type.Union([Count, Type.Null()]),
    dirtyBytesPerSecond: Type.Union([Count, Type.Null()]),
    /** At the present rates; null where it would never end. */
    estimatedSeconds: Type.Union([Count, Type.Null()]),
    expectedDowntimeMs: Type.Union([Count, Type.Null()]),
    elapsedMs: Count,
    /** `pre-copy`, `post-copy`, `disks`, ... */
    stage: Line,
  },
  strict,
);
export type MigrationProgress = Static<typeof MigrationProgress>;
