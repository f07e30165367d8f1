import { elementAt, elementsAt, parseXml, type XmlElement } from '@virt-trust/libvirt/xml-tree.ts';
import { bindingsOf, type VmBindings } from './vm-bindings.ts';
import { surroundingsOf, type VmSurroundings } from './vm-surroundings.ts';

/** A disk of a VM as its XML has it. */
export interface VmDisk {
  /** `vda`. */
  readonly target: string;
  readonly kind: 'file' | 'block' | 'network' | 'volume' | 'nvme' | 'other';
  /** `qcow2`, `raw`, ...; empty where it is not said. */
  readonly format: string;
  /** A path; null where it has no medium, or is none of the host's. */
  readonly path: string | null;
  readonly readOnly: boolean;
  readonly shareable: boolean;
  readonly transient: boolean;
  /** Whether its XML has the images that it is based on; else libvirt goes by what the images say. */
  readonly hasChain: boolean;
  /** Whether a VM that comes goes on without it where it is missing (`startupPolicy`). */
  readonly mayBeMissing: boolean;
  /** `none`, `writeback`, ...; empty for QEMU's own. */
  readonly cache: string;
}

/** A network card's other end on the host. */
export interface VmLink {
  readonly kind: 'network' | 'bridge' | 'direct';
  readonly name: string;
}

/** What a VM needs of a host that runs it, of its XML (libvirt's formatdomain). */
export interface VmNeeds {
  readonly name: string;
  readonly uuid: string;
  /** `kvm`, `qemu`. */
  readonly type: string;
  readonly architecture: string;
  readonly machine: string;
  readonly emulator: string;
  /** `none`: no model of its own; `passthrough`: the host's; `unchecked`: with a model that libvirt does not compare. */
  readonly cpu: 'none' | 'passthrough' | 'unchecked' | 'checked';
  readonly memoryBytes: number;
  readonly disks: readonly VmDisk[];
  readonly links: readonly VmLink[];
  /** Firmware, kernel and initial disk that QEMU reads from the host. */
  readonly bootFiles: readonly string[];
  readonly surroundings: VmSurroundings;
  readonly bindings: VmBindings;
  /** What it has that no migration carries, in words. */
  readonly immovable: readonly string[];
  /** Devices of the host's USB: they are torn away. */
  readonly usbHostDevices: number;
}

/** Reads what a VM needs; throws `xml.malformed`. */
export function vmNeedsOf(xml: string): VmNeeds {
  const domain = parseXml(xml);
  const text = (...path: string[]) => elementAt(domain, ...path)?.text ?? '';
  const attribute = (name: string, ...path: string[]) =>
    elementAt(domain, ...path)?.attributes.get(name) ?? '';
  const devices = (name: string) => elementsAt(domain, 'devices', name);
  return {
    name: text('name'),
    uuid: text('uuid').toLowerCase(),
    type: domain.attributes.get('type') ?? '',
    architecture: attribute('arch', 'os', 'type'),
    machine: attribute('machine', 'os', 'type'),
    emulator: text('devices', 'emulator'),
    cpu: cpuOf(elementAt(domain, 'cpu')),
    memoryBytes: memoryOf(elementAt(domain, 'memory')),
    disks: devices('disk').map(diskOf),
    links: devices('interface').flatMap(linkOf),
    bootFiles: ['loader', 'kernel', 'initrd', 'dtb']
      .map((name) => text('os', name))
      .filter((path) => path.startsWith('/')),
    surroundings: surroundingsOf(domain),
    bindings: bindingsOf(domain),
    immovable: [...devices('hostdev').flatMap(hostDevice), ...others(domain)],
    usbHostDevices: devices('hostdev').filter(({ attributes }) => attributes.get('type') === 'usb').length,
  };
}

function cpuOf(cpu: XmlElement | undefined): VmNeeds['cpu'] {
  if (cpu === undefined) return 'none';
  const mode = cpu.attributes.get('mode') ?? 'custom';
  if (mode === 'host-passthrough' || mode === 'maximum') return 'passthrough';
  if (elementAt(cpu, 'model') === undefined) return 'none';
  return cpu.attributes.get('check') === 'none' ? 'unchecked' : 'checked';
}

function diskOf(disk: XmlElement): VmDisk {
  const has = (name: string) => elementAt(disk, name) !== undefined;
  const source = elementAt(disk, 'source')?.attributes;
  const type = disk.attributes.get('type') ?? '';
  const known = ['file', 'block', 'network', 'volume', 'nvme'] as const;
  const kind = known.find((one) => one === type) ?? 'other';
  const path = kind === 'file' ? source?.get('file') : kind === 'block' ? source?.get('dev') : undefined;
  return {
    target: elementAt(disk, 'target')?.attributes.get('dev') ?? '',
    kind,
    format: elementAt(disk, 'driver')?.attributes.get('type') ?? '',
    path: path?.startsWith('/') === true ? path : null,
    readOnly: has('readonly') || disk.attributes.get('device') === 'cdrom',
    shareable: has('shareable'),
    transient: has('transient'),
    hasChain: has('backingStore'),
    mayBeMissing: mayBeMissing(disk.attributes.get('device') ?? 'disk', source?.get('startupPolicy') ?? ''),
    cache: elementAt(disk, 'driver')?.attributes.get('cache') ?? '',
  };
}

/** As qemuDomainCheckDiskStartupPolicy of libvirt 9.0 has it for a VM that is not started but comes. */
function mayBeMissing(device: string, policy: string): boolean {
  return policy === 'requisite' || (policy === 'optional' && (device === 'cdrom' || device === 'floppy'));
}

function linkOf(card: XmlElement): VmLink[] {
  const source = elementAt(card, 'source')?.attributes;
  const link = (kind: VmLink['kind'], name: string | undefined) =>
    name === undefined || name === '' ? [] : [{ kind, name }];
  switch (card.attributes.get('type')) {
    case 'network':
      return link('network', source?.get('network'));
    case 'bridge':
      return link('bridge', source?.get('bridge'));
    case 'direct':
      return link('direct', source?.get('dev'));
    default:
      return [];
  }
}

/** As qemuMigrationSrcIsAllowedHostdev of libvirt 9.0 has it. */
function hostDevice(device: XmlElement): string[] {
  const type = device.attributes.get('type') ?? '';
  if (device.attributes.get('mode') === 'capabilities') return ["<hostdev mode='capabilities'>"];
  if (type === 'usb' || isTransient(device)) return [];
  return [`<hostdev mode='subsystem' type='${type}'>`];
}

/** A pair of cards of which the one of the host's is unplugged for a migration. */
function isTransient(device: XmlElement): boolean {
  return elementAt(device, 'teaming')?.attributes.get('type') === 'transient';
}

/** As qemuMigrationSrcIsAllowed has it. */
function others(domain: XmlElement): string[] {
  const found = (name: string) => elementsAt(domain, 'devices', name);
  const cards = found('interface').flatMap((card) => {
    const type = card.attributes.get('type') ?? '';
    return (type === 'hostdev' && !isTransient(card)) || type === 'vdpa'
      ? [`<interface type='${type}'>`]
      : [];
  });
  const shares = found('filesystem').map((one) => elementAt(one, 'driver')?.attributes.get('type') ?? '9p');
  const memories = found('shmem').filter(
    (one) =>
      elementAt(one, 'model')?.attributes.get('type') === 'ivshmem' ||
      one.attributes.get('role') !== 'master',
  );
  return [
    ...cards,
    ...shares.map((driver) => `<filesystem> over ${driver === 'virtiofs' ? 'virtiofs' : '9p'}`),
    ...memories.map((one) => `<shmem name='${one.attributes.get('name') ?? ''}'> of another's`),
  ];
}

const UNITS: Readonly<Record<string, number>> = {
  b: 1,
  bytes: 1,
  KB: 1000,
  KiB: 1024,
  k: 1024,
  MB: 1e6,
  MiB: 1 << 20,
  M: 1 << 20,
  GB: 1e9,
  GiB: 1 << 30,
  G: 1 << 30,
};

function memoryOf(memory: XmlElement | undefined): number {
  if (memory === undefined || !/^\d{1,15}$/.test(memory.text)) return 0;
  return Number(memory.text) * (UNITS[memory.attributes.get('unit') ?? 'KiB'] ?? 1024);
}

/** Which disks are copied, with storage copy: those named, or all that libvirt takes by itself (qemuMigrationAnyCopyDisk). */
export function copiedDisks(
  disks: readonly VmDisk[],
  options: { readonly copyStorage: string; readonly copyDisks: readonly string[] },
): readonly VmDisk[] {
  if (options.copyStorage === 'none') return [];
  return disks.filter((disk) =>
    options.copyDisks.length > 0
      ? options.copyDisks.includes(disk.target)
      : !disk.readOnly && !disk.shareable && (disk.path !== null || disk.kind === 'volume'),
  );
}
