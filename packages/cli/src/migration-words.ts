import {
  DISK_TARGET,
  MIGRATION_MODES,
  type MigrationMode,
} from '@virt-trust/contract/model/migration-options.ts';
import { InvalidArgumentError } from 'commander';

/** Modes in order, each once: `tls,pinned`. */
export function modeList(value: string): MigrationMode[] {
  const words = nameList(value);
  const modes = words.flatMap((word) => MIGRATION_MODES.filter((mode) => mode === word));
  if (modes.length !== words.length || new Set(modes).size !== modes.length)
    throw new InvalidArgumentError(`It must be of ${MIGRATION_MODES.join(', ')}, each once.`);
  return modes;
}

/** Names with commas between. */
export function nameList(value: string): string[] {
  const names = value.split(',').map((name) => name.trim());
  if (names.some((name) => name === ''))
    throw new InvalidArgumentError('It must be names with commas between.');
  return names;
}

const DISK = new RegExp(DISK_TARGET);

/** Targets of disks with commas between: `vda,vdb`. */
export function diskList(value: string): string[] {
  const disks = nameList(value);
  if (disks.some((disk) => !DISK.test(disk)))
    throw new InvalidArgumentError(
      'It must be targets of disks with commas between, such as vda,vdb (virsh domblklist VM).',
    );
  return disks;
}

/** A number of flags, decimal or hexadecimal. */
export function rawFlags(value: string): number {
  const flags = /^(?:0x[0-9a-fA-F]{1,8}|\d{1,10})$/.test(value) ? Number(value) : Number.NaN;
  if (!(flags >= 0 && flags <= 0x7fff_ffff))
    throw new InvalidArgumentError('It must be a number of flags up to 0x7fffffff, decimal or hexadecimal.');
  return flags;
}
