import { shellWord } from '@virt-trust/base/shell-word.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import { FindingList } from './finding-list.ts';
import { copiedDisks, type VmNeeds } from './vm-needs.ts';

/** `VIR_MIGRATE_UNSAFE`. */
const FLAG_UNSAFE = 512;

/** A VM as its source has it. */
export interface SourceVm {
  readonly needs: VmNeeds;
  /** As libvirt says it: `running`, `paused`, `shut off`, ... */
  readonly state: string;
  readonly snapshots: number;
  /** Whether a job of libvirt's works on it now. */
  readonly busy: boolean;
  /** Paths of its disks that are on a file system which other hosts may have, too. */
  readonly sharedPaths: ReadonlySet<string>;
}

/** What keeps a VM from leaving its host, by the rules of libvirt's own source side (qemu_migration.c of 9.0). */
export function sourceFindings(
  vm: SourceVm,
  options: MigrationOptions,
  { own, peer }: { readonly own: string; readonly peer: string },
): FindingList['all'] {
  const list = new FindingList(own);
  const { needs, state } = vm;
  const { name } = needs;
  const isActive = state !== 'shut off' && state !== 'crashed';
  if (!isActive && !options.offline)
    list.error(
      'vm.not_running',
      `${name} is ${state} on ${own}: there is no memory to migrate, libvirt refuses`,
      `start it (virsh start ${virshDomain(needs)}), or migrate its definition alone: virt-trust migrate ${shellWord(name)} --offline --persistent ...`,
    );
  // libvirt takes it, and a VM that runs is then defined twice, ready to be started beside itself.
  if (isActive && options.offline)
    list.error(
      'vm.running',
      `${name} is ${state} on ${own}, and --offline brings over the definition of a VM that is off`,
      `leave --offline out to migrate it as it runs, or shut it down before: virsh shutdown ${virshDomain(needs)}, on ${own}`,
    );
  if (options.offline && options.copyStorage !== 'none')
    list.error(
      'option.offline_storage',
      'libvirt copies no disks of a VM that is off',
      'leave --copy-storage out, and copy the disks by yourself',
    );
  if (options.offline && !options.persistent)
    list.error(
      'option.offline_persistent',
      `a migration of a definition alone would leave nothing on ${peer}, libvirt refuses it`,
      'add --persistent',
    );
  if (vm.snapshots > 0)
    list.error(
      'vm.snapshots',
      `${name} has ${vm.snapshots} snapshots, with which libvirt migrates no VM`,
      `delete them on ${own}: virsh snapshot-list ${virshDomain(needs)}; virsh snapshot-delete ${virshDomain(needs)} NAME (--metadata keeps their data)`,
    );
  if (vm.busy)
    list.error(
      'vm.busy',
      `libvirt on ${own} works on ${name} already`,
      `wait for its end (virsh domjobinfo ${virshDomain(needs)}), or end it: virsh domjobabort ${virshDomain(needs)}`,
    );
  if (options.offline || !isActive) return list.all;
  for (const what of needs.immovable)
    list.error(
      'device.immovable',
      `${name} has ${what}, which is tied to ${own}`,
      `take it out for the migration: virsh detach-device ${virshDomain(needs)} DEVICE.xml --live`,
    );
  if (needs.usbHostDevices > 0)
    list.warning(
      'device.usb',
      `${name} has ${needs.usbHostDevices} USB devices of ${own}, which it loses`,
      `take them out before: virsh detach-device ${virshDomain(needs)} DEVICE.xml --live`,
    );
  disks(list, vm, options, own, peer);
  return list.all;
}

/** As qemuMigrationSrcIsSafe has it. */
function disks(list: FindingList, vm: SourceVm, options: MigrationOptions, own: string, peer: string): void {
  const { needs } = vm;
  const copied = new Set(copiedDisks(needs.disks, options).map(({ target }) => target));
  for (const target of options.copyStorage === 'none' ? [] : options.copyDisks)
    if (!needs.disks.some((disk) => disk.target === target))
      list.error(
        'disk.unknown',
        `${needs.name} has no disk ${target} that could be copied`,
        needs.disks.length === 0
          ? 'it has none at all: leave out --copy-storage and --copy-disks'
          : `name one of ${needs.disks.map((disk) => disk.target).join(', ')} with --copy-disks`,
      );
  const isForced = (options.flags & FLAG_UNSAFE) !== 0;
  const refuse = (code: string, what: string, fix: string) =>
    list.add(isForced ? 'warning' : 'error', code, what, fix);
  for (const disk of needs.disks) {
    if (disk.transient)
      list.error(
        'disk.transient',
        `disk ${disk.target} of ${needs.name} is transient, with which libvirt migrates no VM`,
        `take it out for the migration: virsh detach-disk ${virshDomain(needs)} ${shellWord(disk.target)} --live`,
      );
    const hasMedium = disk.path !== null || disk.kind === 'nvme';
    if (disk.readOnly || copied.has(disk.target) || !hasMedium) continue;
    const isLocal =
      disk.kind === 'nvme' || (disk.kind === 'file' && disk.path !== null && !vm.sharedPaths.has(disk.path));
    if (isLocal)
      refuse(
        'disk.not_shared',
        `disk ${disk.target} of ${needs.name} (${disk.path ?? 'NVMe'}) is on a file system of ${own} alone: ${isForced ? `with VIR_MIGRATE_UNSAFE the VM goes on with whatever ${peer} has under that path` : 'libvirt refuses ("Migration without shared storage is unsafe")'}`,
        `copy it along (--copy-storage all), or have it on storage that ${own} and ${peer} share`,
      );
    // QEMU drops its caches at the hand-over (since 4.0), which cannot help where flushes are ignored.
    if (disk.cache === 'unsafe')
      list.warning(
        'disk.cache_unsafe',
        `disk ${disk.target} of ${needs.name} has cache='unsafe', which ignores flushes: ${peer} could begin with data that ${own} did not write`,
        `set cache='none' for it: virsh edit ${virshDomain(needs)}, and restart the VM`,
      );
  }
}
