import type { MigrationOptions, MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';
import type { SettingName } from '../settings/definitions.ts';
import type { Settings } from '../settings/settings.ts';
import { said } from './facts.ts';
import { assertTogether, type OptionOrigins } from './option-conflicts.ts';

/** The setting that stands in for each option that is not given. */
const SETTING_OF = {
  live: 'migration.live',
  offline: 'migration.offline',
  persistent: 'migration.persistent',
  undefineSource: 'migration.undefine_source',
  copyStorage: 'migration.copy_storage',
  postCopy: 'migration.post_copy',
  parallel: 'migration.parallel',
  compression: 'migration.compression',
  autoConverge: 'migration.auto_converge',
  bandwidthMiB: 'migration.bandwidth_mib',
  downtimeMs: 'migration.downtime_ms',
  timeoutSeconds: 'migration.timeout_seconds',
  timeoutAction: 'migration.timeout_action',
  flags: 'migration.flags',
} as const satisfies Partial<Record<keyof MigrationOptions, SettingName>>;

type Settled = keyof typeof SETTING_OF;

/** Options that say nothing of a VM that is off: what the settings say of them is left out, what is asked for is refused. */
const WHILE_IT_RUNS = {
  copyStorage: 'none',
  postCopy: false,
  parallel: 0,
  compression: 'none',
  autoConverge: false,
  downtimeMs: 0,
  timeoutSeconds: 0,
  flags: 0,
} as const satisfies Partial<MigrationOptions>;

/** `global`, `cluster rack1`, `host kvm1`. */
function whose(from: string): string {
  return from === 'global' ? 'the fleet' : from;
}

/**
 * How a VM is migrated in full: what was asked for, the rest as the settings have it for the source. `isOff` is asked where
 * the setting migration.offline is on, which is for VMs that are off alone: one that runs is never kept by it. Throws
 * `migration.options` for what libvirt or QEMU would refuse together.
 */
export async function optionsFor(
  wish: MigrationWish,
  source: { readonly name: string; readonly cluster: string },
  settings: Pick<Settings, 'explain'>,
  isOff: () => Promise<boolean> = async () => false,
): Promise<MigrationOptions> {
  const subject = { host: source.name, cluster: source.cluster };
  const entries = await Promise.all(
    (Object.keys(SETTING_OF) as Settled[]).map(async (key) => {
      const { value, from } = await said(SETTING_OF[key], subject, settings);
      return [
        key,
        value,
        from === 'default' ? from : `setting ${SETTING_OF[key]} of ${whose(from)}`,
      ] as const;
    }),
  );
  const fromSettings = Object.fromEntries(entries.map(([key, value]) => [key, value]));
  const origins = Object.fromEntries(entries.map(([key, , from]) => [key, from]));
  const offline = wish.offline ?? (fromSettings['offline'] === true && (await isOff()));
  const options = {
    copyDisks: [],
    ...fromSettings,
    offline,
    // Nothing but the definition moves: it has to be defined there.
    ...(offline ? { ...WHILE_IT_RUNS, persistent: true } : {}),
    ...wish,
  } as MigrationOptions;
  const from = (key: keyof MigrationOptions) =>
    wish[key] === undefined ? (origins[key] ?? 'default') : 'request';
  const keys = Object.keys(options) as (keyof MigrationOptions)[];
  assertTogether(options, Object.fromEntries(keys.map((key) => [key, from(key)])) as OptionOrigins);
  return withFlagsAsOptions(options);
}

/** Raw flags that are options by another name count as these: what is checked, granted and told goes by the options. */
function withFlagsAsOptions(options: MigrationOptions): MigrationOptions {
  const has = (flag: number) => (options.flags & flag) !== 0;
  return {
    ...options,
    live: options.live || has(MIGRATE_FLAGS.live),
    persistent: options.persistent || has(MIGRATE_FLAGS.persistDestination),
    undefineSource: options.undefineSource || has(MIGRATE_FLAGS.undefineSource),
    copyStorage: has(MIGRATE_FLAGS.nonSharedDisk)
      ? 'all'
      : has(MIGRATE_FLAGS.nonSharedIncremental)
        ? 'inc'
        : options.copyStorage,
    autoConverge: options.autoConverge || has(MIGRATE_FLAGS.autoConverge),
  };
}
