import type { MigrationOptions } from './migration-options.ts';

/** What `virt-trust migrate` calls each field of a migration's options: the one table for the command and for messages. */
export const MIGRATION_OPTION_FLAGS = {
  live: '--live',
  offline: '--offline',
  persistent: '--persistent',
  undefineSource: '--undefine-source',
  copyStorage: '--copy-storage',
  copyDisks: '--copy-disks',
  postCopy: '--post-copy',
  parallel: '--parallel',
  compression: '--compress',
  autoConverge: '--auto-converge',
  bandwidthMiB: '--bandwidth',
  downtimeMs: '--downtime',
  timeoutSeconds: '--timeout',
  timeoutAction: '--timeout-action',
  flags: '--flags',
} as const satisfies Record<keyof MigrationOptions, string>;

/** An option with its value, as it is typed: `--no-live`, `--parallel 4`, `--copy-disks vda,vdb`. */
export function optionWords<Key extends keyof MigrationOptions>(
  key: Key,
  value: MigrationOptions[Key],
): string {
  const flag = MIGRATION_OPTION_FLAGS[key];
  if (typeof value === 'boolean') return value ? flag : flag.replace('--', '--no-');
  return `${flag} ${Array.isArray(value) ? value.join(',') : value}`;
}
