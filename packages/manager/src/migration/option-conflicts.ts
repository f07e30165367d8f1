import { TrustError } from '@virt-trust/base/error.ts';
import { optionWords } from '@virt-trust/contract/model/migration-option-words.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';
import { NEVER_FLAGS } from '../settings/migration-flags.ts';

/** Whose word each option is: `request`, the setting with its scope for people, or `default` where nobody said anything. */
export type OptionOrigins = Readonly<Record<keyof MigrationOptions, string>>;

interface Rule {
  /** The options that clash. */
  readonly of: readonly (keyof MigrationOptions)[];
  readonly clashes: (options: MigrationOptions, origins: OptionOrigins) => boolean;
  readonly why: string;
  readonly hint: string;
}

const has = ({ flags }: MigrationOptions, flag: number) => (flags & flag) !== 0;
/** Post-copy at once, or where the time is over. */
const switchesOver = (options: MigrationOptions) =>
  options.postCopy ||
  (options.timeoutSeconds > 0 && options.timeoutAction === 'post-copy') ||
  has(options, MIGRATE_FLAGS.postCopy);
const copies = (options: MigrationOptions) =>
  options.copyStorage !== 'none' ||
  has(options, MIGRATE_FLAGS.nonSharedDisk | MIGRATE_FLAGS.nonSharedIncremental);

/** What libvirt (qemuMigrationSrcBeginPhase, virDomainMigrate3) or QEMU (migrate_caps_check) refuses, or gets wrong. */
const RULES: readonly Rule[] = [
  {
    of: ['postCopy', 'flags', 'live'],
    clashes: (options) => (options.postCopy || has(options, MIGRATE_FLAGS.postCopy)) && !options.live,
    why: 'post-copy is for VMs that run while they migrate',
    hint: 'leave out --post-copy or --no-live',
  },
  {
    of: ['postCopy', 'timeoutAction', 'parallel'],
    clashes: (options) => options.parallel > 0 && switchesOver(options),
    why: 'post-copy and parallel connections exclude each other: QEMU would lose pages',
    hint: 'leave out one of them: --no-post-copy, or --parallel 0',
  },
  {
    of: ['postCopy', 'timeoutAction', 'compression'],
    clashes: (options) => options.compression !== 'none' && switchesOver(options),
    why: 'post-copy and compression exclude each other in QEMU',
    hint: 'leave out one of them: --no-post-copy, or --compress none',
  },
  {
    of: ['compression', 'parallel'],
    clashes: ({ compression, parallel }) => ['zlib', 'zstd'].includes(compression) && parallel === 0,
    why: 'zlib and zstd compress parallel connections only',
    hint: 'add --parallel 2, or use --compress xbzrle',
  },
  {
    of: ['compression', 'parallel'],
    clashes: ({ compression, parallel }) => compression === 'mt' && parallel > 0,
    why: 'mt compresses one stream alone, QEMU refuses it with parallel connections',
    hint: 'use --compress zstd, or --parallel 0',
  },
  {
    of: ['compression', 'parallel'],
    clashes: ({ compression, parallel }) => compression === 'xbzrle' && parallel > 0,
    why: 'xbzrle does not compress parallel connections: QEMU would leave it out without a word',
    hint: 'use --compress zstd, or --parallel 0',
  },
  {
    of: ['timeoutAction', 'live'],
    clashes: ({ timeoutSeconds, timeoutAction, live }) =>
      timeoutSeconds > 0 && timeoutAction !== 'abort' && !live,
    why: 'a VM that stands still anyway can be neither suspended nor switched over',
    hint: 'use --timeout-action abort, or leave out --no-live',
  },
  {
    of: ['timeoutAction'],
    clashes: ({ timeoutSeconds }, { timeoutAction }) => timeoutAction === 'request' && timeoutSeconds === 0,
    why: 'there is no time after which it would be taken',
    hint: 'add --timeout SECONDS',
  },
  {
    of: ['copyDisks', 'copyStorage'],
    clashes: (options) => options.copyDisks.length > 0 && !copies(options),
    why: 'disks are named, and none are copied',
    hint: 'add --copy-storage all',
  },
  {
    of: ['copyStorage', 'flags'],
    clashes: (options) =>
      (options.copyStorage === 'all' || has(options, MIGRATE_FLAGS.nonSharedDisk)) &&
      (options.copyStorage === 'inc' || has(options, MIGRATE_FLAGS.nonSharedIncremental)),
    why: 'disks are copied either whole or by difference',
    hint: 'choose one: --copy-storage all or --copy-storage inc',
  },
  {
    of: ['offline', 'copyStorage'],
    clashes: (options) => options.offline && copies(options),
    why: 'libvirt copies no disks of a VM that is off',
    hint: 'leave out --copy-storage, or start the VM first',
  },
  {
    of: ['offline', 'persistent'],
    clashes: ({ offline, persistent }) => offline && !persistent,
    why: 'of a VM that is off nothing but its definition moves',
    hint: 'leave out --no-persistent',
  },
  ...(['postCopy', 'parallel', 'compression', 'autoConverge', 'downtimeMs', 'timeoutSeconds'] as const).map(
    (key): Rule => ({
      of: ['offline', key],
      clashes: (options) => options.offline && ![0, false, 'none'].includes(options[key]),
      why: 'a VM that is off has no memory to move',
      hint: 'leave out --offline, or the other option',
    }),
  ),
  ...NEVER_FLAGS.map(
    ({ mask, why, hint }): Rule => ({ of: ['flags'], clashes: (options) => has(options, mask), why, hint }),
  ),
  {
    of: ['flags'],
    clashes: (options) => has(options, MIGRATE_FLAGS.offline) && !options.offline,
    why: 'VIR_MIGRATE_OFFLINE (1024) is an option of its own',
    hint: 'use --offline',
  },
  {
    of: ['flags', 'postCopy'],
    clashes: (options) => has(options, MIGRATE_FLAGS.paused) && switchesOver(options),
    why: 'post-copy cannot leave the VM paused (VIR_MIGRATE_PAUSED, 32)',
    hint: 'leave out one of them',
  },
  {
    of: ['flags', 'parallel'],
    clashes: (options) =>
      has(options, MIGRATE_FLAGS.parallel | MIGRATE_FLAGS.zeroCopy) && options.parallel === 0,
    why: 'VIR_MIGRATE_PARALLEL (131072) and VIR_MIGRATE_ZEROCOPY (1048576) need to know how many connections',
    hint: 'add --parallel 2',
  },
  {
    of: ['flags', 'compression'],
    clashes: (options) => has(options, MIGRATE_FLAGS.zeroCopy) && options.compression !== 'none',
    why: 'zero-copy sends memory as it is',
    hint: 'leave out --compress',
  },
  {
    of: ['flags', 'copyStorage'],
    clashes: (options) => has(options, MIGRATE_FLAGS.nonSharedSynchronousWrites) && !copies(options),
    why: 'VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES (262144) is about disks that are copied',
    hint: 'add --copy-storage all',
  },
];

/** As it is typed, as the API calls it, and whose word it is. */
function wordsOf(key: keyof MigrationOptions, options: MigrationOptions, origin: string): string {
  const words = optionWords(key, options[key]);
  return origin === 'request' ? words : `${words} (${key}, by ${origin})`;
}

/** Throws `migration.options` for options of which libvirt or QEMU would refuse one with the other. */
export function assertTogether(options: MigrationOptions, origins: OptionOrigins): void {
  const broken = RULES.find(({ clashes }) => clashes(options, origins));
  if (broken === undefined) return;
  const words = broken.of
    // What nobody said is not what clashes; that it is missing says the reason.
    .filter((key) => origins[key] !== 'default')
    .map((key) => wordsOf(key, options, origins[key]));
  throw new TrustError(
    'migration.options',
    'invalid',
    `cannot migrate with ${words.join(' and ')}: ${broken.why}`,
    { hint: broken.hint },
  );
}
