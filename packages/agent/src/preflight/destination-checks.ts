import { shellWord } from '@virt-trust/base/shell-word.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import type { PreflightOrder } from '@virt-trust/contract/model/preflight.ts';
import { directoryOf } from './directory-of.ts';
import { FindingList } from './finding-list.ts';
import type { DiskTrouble } from './host-files.ts';
import type { ImageFacts } from './image-facts.ts';
import { copiedDisks, type VmDisk, type VmNeeds } from './vm-needs.ts';

/** What the destination has of what a VM needs. */
export interface DestinationFacts {
  /** A VM of that UUID: what it is called there, and whether it runs. */
  readonly sameUuid: { readonly name: string; readonly active: boolean } | null;
  /** The UUID of a VM of that name. */
  readonly sameName: string | null;
  /** Paths of the VM's that are there. */
  readonly paths: ReadonlySet<string>;
  /** Of paths of its disks that are there, why QEMU does not open them. */
  readonly troubles: ReadonlyMap<string, readonly DiskTrouble[]>;
  /** Images of files that are there, by path. */
  readonly images: ReadonlyMap<string, ImageFacts>;
  /** Directories of the VM's disks in which libvirt makes missing ones: targets of active storage pools. */
  readonly pools: ReadonlySet<string>;
  /** Free bytes by directory of the VM's disks. */
  readonly freeBytes: ReadonlyMap<string, number>;
  /** Links of the VM's that are there and up: `network default`, `bridge br0`, `direct eth0`. */
  readonly links: ReadonlySet<string>;
  /** What libvirt says of its machine type and emulator; null where it takes them. */
  readonly machineRefused: string | null;
  /** What libvirt says of its CPU; null where it takes it, or nothing was asked. */
  readonly cpuRefused: string | null;
  readonly availableMemoryBytes: number | null;
}

/** What keeps a host from taking a VM. */
export function destinationFindings(
  needs: VmNeeds,
  facts: DestinationFacts,
  { options, disks, own, peer }: Pick<PreflightOrder, 'options' | 'disks' | 'own' | 'peer'>,
): FindingList['all'] {
  const list = new FindingList(own);
  identity(list, needs, facts, own, peer);
  // A definition alone starts nothing.
  if (options.offline) return list.all;
  hardware(list, needs, facts, own);
  for (const { kind, name } of needs.links) {
    if (facts.links.has(`${kind} ${name}`)) continue;
    const [what, fix] = LINKS[kind](name);
    list.error(
      kind === 'network' ? 'network.missing' : 'bridge.missing',
      `${needs.name} is on ${what}, which ${own} does not have up: it does not start there`,
      `on ${own}: ${fix}; or give the VM another (virsh edit ${virshDomain(needs)} on ${peer})`,
    );
  }
  for (const path of needs.bootFiles)
    if (!facts.paths.has(path))
      list.error(
        'boot.missing',
        `${needs.name} boots from ${path}, which ${own} does not have: QEMU does not start there`,
        `put it on ${own} at that path (firmware: install the same package, such as ovmf)`,
      );
  storage(list, needs, facts, { options, disks, own, peer });
  return list.all;
}

/** As virDomainObjListAdd has it. */
function identity(
  list: FindingList,
  { name, uuid }: VmNeeds,
  { sameUuid, sameName }: DestinationFacts,
  own: string,
  peer: string,
): void {
  if (sameUuid?.active === true)
    list.error(
      'vm.already_there',
      `${sameUuid.name} runs on ${own} already, with the same UUID ${uuid}: libvirt takes no second one`,
      `nothing where it is on ${own} that it shall be. Start it nowhere else meanwhile; see which one is right: virsh domstate --reason ${virshDomain({ name: sameUuid.name, uuid })}, on ${own} and on ${peer}`,
    );
  else if (sameUuid !== null && sameUuid.name !== name)
    list.error(
      'vm.other_name',
      `${own} has the VM defined under another name, ${sameUuid.name}: libvirt refuses`,
      `take that definition away on ${own}: virsh undefine ${virshDomain({ name: sameUuid.name, uuid })}`,
    );
  if (sameName !== null && sameName !== uuid)
    list.error(
      'vm.name_taken',
      `${own} has another VM called ${name} (UUID ${sameName}): libvirt refuses a second one`,
      `rename one of the two while it is off: virsh domrename ${virshDomain({ name, uuid: sameName })} NEWNAME on ${own}, or virsh domrename ${virshDomain({ name, uuid })} NEWNAME on ${peer}`,
    );
}

function hardware(list: FindingList, needs: VmNeeds, facts: DestinationFacts, own: string): void {
  if (facts.machineRefused !== null)
    list.error(
      'vm.machine_type',
      `QEMU on ${own} does not run ${needs.name} (${needs.type}, ${needs.architecture}, machine ${needs.machine}, ${needs.emulator}): ${facts.machineRefused}`,
      `bring QEMU on ${own} to the source's version or later, or restart the VM with a machine type that both know (virsh edit; virsh domcapabilities lists them)`,
    );
  if (needs.cpu === 'passthrough')
    list.warning(
      'vm.cpu_passthrough',
      `${needs.name} has the very CPU of its host: on ${own} it goes on only where that has the same one, and nothing checks it`,
      `see that both have the same CPU and microcode (virsh capabilities), or give the VM a CPU model: virsh edit ${virshDomain(needs)}`,
    );
  if (facts.cpuRefused !== null)
    list.add(
      // libvirt does not compare it either then: the guest sees what QEMU there makes of it.
      needs.cpu === 'unchecked' ? 'warning' : 'error',
      'vm.cpu',
      `the CPU of ${needs.name} is more than ${own} has: ${facts.cpuRefused}`,
      `restart the VM with a CPU model that both hosts have: virsh hypervisor-cpu-baseline over the capabilities of both, then virsh edit ${virshDomain(needs)}`,
    );
  const { availableMemoryBytes: memory } = facts;
  if (memory !== null && needs.memoryBytes > memory)
    list.warning(
      'memory.short',
      `${needs.name} has ${gib(needs.memoryBytes)} of memory and ${own} has ${gib(memory)} available: it may swap, or end a VM`,
      `make room on ${own}, or choose another host`,
    );
}

function storage(
  list: FindingList,
  needs: VmNeeds,
  facts: DestinationFacts,
  { options, disks, own, peer }: Pick<PreflightOrder, 'options' | 'disks' | 'own' | 'peer'>,
): void {
  const copied = new Set(copiedDisks(needs.disks, options));
  const wanted = new Map<string, { allocated: number; capacity: number }>();
  for (const disk of needs.disks) {
    const { path, target } = disk;
    if (path === null) continue;
    if (facts.paths.has(path)) {
      for (const { code, text, remedy } of facts.troubles.get(path) ?? [])
        list.error(
          code,
          `QEMU on ${own} does not open disk ${target} of ${needs.name}, ${path}: ${text}`,
          `on ${own}: ${remedy}`,
        );
      const how = { options, disks, own, peer };
      if (copied.has(disk)) image(list, needs.name, disk, facts, how);
      else sameImage(list, needs.name, disk, facts, how);
      continue;
    }
    if (!copied.has(disk)) {
      if (disk.mayBeMissing) {
        list.note(
          'disk.left_out',
          `disk ${target} of ${needs.name}, ${path}, is not on ${own}, and the VM goes on without it there (startupPolicy)`,
          `put it there before, if it is wanted`,
        );
        continue;
      }
      list.error(
        'disk.missing',
        `disk ${target} of ${needs.name}, ${path}, is not on ${own}: QEMU does not start there`,
        missingFix(disk, options, own, peer),
      );
      continue;
    }
    const directory = directoryOf(path);
    if (disk.kind !== 'file' || options.copyStorage === 'inc' || !facts.pools.has(directory)) {
      list.error(
        'disk.not_made',
        options.copyStorage === 'inc'
          ? `disk ${target} of ${needs.name} is copied onto a base, ${path}, that ${own} does not have`
          : `libvirt on ${own} does not make ${path} for disk ${target} of ${needs.name}: ${directory} is no active storage pool there`,
        options.copyStorage === 'inc'
          ? `put the same base there, or copy all of it: --copy-storage all`
          : `make the pool (virsh pool-create-as NAME dir --target ${shellWord(directory)}), or the disk by hand with the same size`,
      );
      continue;
    }
    const size = disks.find((one) => one.target === target);
    const sum = wanted.get(directory) ?? { allocated: 0, capacity: 0 };
    wanted.set(directory, {
      allocated: sum.allocated + (size?.allocatedBytes ?? 0),
      capacity: sum.capacity + (size?.capacityBytes ?? 0),
    });
  }
  for (const [directory, { allocated, capacity }] of wanted) {
    const free = facts.freeBytes.get(directory);
    if (free === undefined || capacity <= free) continue;
    list.add(
      allocated > free ? 'error' : 'warning',
      'disk.space',
      `the copied disks of ${needs.name} hold ${gib(allocated)} and may grow to ${gib(capacity)}; ${directory} on ${own} has ${gib(free)} left`,
      `make room in ${directory} on ${own}, or choose another host`,
    );
  }
}

/** QEMU mirrors onto an image of the same size alone. */
function image(
  list: FindingList,
  name: string,
  { target, path, kind, format }: VmDisk,
  { images }: DestinationFacts,
  { options, disks, own, peer }: Pick<PreflightOrder, 'options' | 'disks' | 'own' | 'peer'>,
): void {
  const there = kind === 'file' && path !== null ? images.get(path) : undefined;
  if (there === undefined || path === null) return;
  const capacity = disks.find((one) => one.target === target)?.capacityBytes;
  const base = options.copyStorage === 'inc' ? ' -b BASE -F FORMAT' : '';
  const remake = `if nothing in it is needed, make it anew on ${own}: qemu-img create -f ${shellWord(format || 'raw')}${base} ${shellWord(path)} ${capacity ?? 'SIZE'}`;
  if (format === 'qcow2' && there.format !== 'qcow2')
    list.error(
      'disk.other_format',
      `disk ${target} of ${name} would be copied onto ${path} on ${own}, which is no qcow2 image as on ${peer}: QEMU does not start there`,
      remake,
    );
  else if (capacity !== undefined && sectors(there.bytes) !== sectors(capacity))
    list.error(
      'disk.other_size',
      `disk ${target} of ${name} has ${capacity} bytes and ${path} on ${own}, onto which it would be copied, ${there.bytes}: QEMU copies onto the same size alone`,
      remake,
    );
}

/** What is under the same path at both hosts is to be the same image; where it is not, QEMU cannot know it. */
function sameImage(
  list: FindingList,
  name: string,
  { target, path, kind, format }: VmDisk,
  { images }: DestinationFacts,
  { disks, own, peer }: Pick<PreflightOrder, 'disks' | 'own' | 'peer'>,
): void {
  const there = kind === 'file' && path !== null ? images.get(path) : undefined;
  if (there === undefined || path === null) return;
  const capacity = disks.find((one) => one.target === target)?.capacityBytes;
  const fix = `see what each has: qemu-img info -U ${shellWord(path)} on ${own} and on ${peer}; have ${directoryOf(path)} on storage that both share, or copy the disk along: --copy-storage all`;
  if (format === 'qcow2' && there.format !== 'qcow2')
    list.error(
      'disk.other_format',
      `disk ${target} of ${name}, ${path}, is no qcow2 image on ${own} as it is on ${peer}: QEMU does not start there`,
      fix,
    );
  else if (capacity !== undefined && capacity > 0 && sectors(there.bytes) !== sectors(capacity))
    list.warning(
      'disk.other_size',
      `disk ${target} of ${name}, ${path}, has ${capacity} bytes on ${peer} and ${there.bytes} on ${own}: it is another image, with whose content the VM would go on`,
      fix,
    );
}

function sectors(bytes: number): number {
  return Math.ceil(bytes / 512);
}

function missingFix(
  { path, readOnly }: VmDisk,
  { copyStorage }: MigrationOptions,
  own: string,
  peer: string,
): string {
  const share = `have ${directoryOf(path ?? '/')} on storage that ${peer} and ${own} share and mount it on ${own}`;
  return copyStorage === 'none' && !readOnly ? `${share}; or copy disks along: --copy-storage all` : share;
}

const LINKS: Readonly<
  Record<VmNeeds['links'][number]['kind'], (name: string) => readonly [what: string, fix: string]>
> = {
  network: (name) => [
    `libvirt's network ${name}`,
    `virsh net-start ${shellWord(name)} (virsh net-list --all)`,
  ],
  bridge: (name) => [
    `bridge ${name}`,
    `ip link add ${shellWord(name)} type bridge; ip link set ${shellWord(name)} up`,
  ],
  direct: (name) => [`network card ${name}`, `see its name there: ip link`],
};

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
