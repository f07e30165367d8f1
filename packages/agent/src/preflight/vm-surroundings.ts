import { elementAt, elementsAt, type XmlElement } from '@virt-trust/libvirt/xml-tree.ts';
import { isIpAddress } from '@virt-trust/pki/ip-address.ts';

/** A display as the VM's XML fixes it; what its new host chooses by itself is left out. */
interface VmDisplay {
  /** `vnc`, `spice`. */
  readonly kind: string;
  readonly ports: readonly number[];
  /** Addresses of some host's own: neither all nor loopback. */
  readonly addresses: readonly string[];
}

/** What a VM wants of its host besides hardware, disks and networks. */
export interface VmSurroundings {
  readonly displays: readonly VmDisplay[];
  /** libvirt's network filters of its cards. */
  readonly filters: readonly string[];
  /** Files that its serial ports and consoles write. */
  readonly outputs: readonly string[];
  /** Whether its memory is of huge pages, and of which size; null for the host's default size. */
  readonly hugePages: { readonly pageBytes: number | null } | null;
}

const ANYWHERE: ReadonlySet<string> = new Set(['0.0.0.0', '::']);
const CHARACTER_DEVICES = ['serial', 'console', 'parallel', 'channel'] as const;
const UNITS: Readonly<Record<string, number>> = {
  KiB: 1024,
  K: 1024,
  k: 1024,
  MiB: 1 << 20,
  M: 1 << 20,
  GiB: 1 << 30,
  G: 1 << 30,
};

/** Reads it of libvirt's domain XML. */
export function surroundingsOf(domain: XmlElement): VmSurroundings {
  const devices = (name: string) => elementsAt(domain, 'devices', name);
  const filters = devices('interface').flatMap((card) => {
    const filter = elementAt(card, 'filterref')?.attributes.get('filter') ?? '';
    return filter === '' ? [] : [filter];
  });
  return {
    displays: devices('graphics').map(displayOf),
    filters: [...new Set(filters)],
    outputs: [...new Set(CHARACTER_DEVICES.flatMap((name) => devices(name).flatMap(outputOf)))],
    hugePages: hugePagesOf(domain),
  };
}

function displayOf(graphics: XmlElement): VmDisplay {
  const { attributes } = graphics;
  const isFixed = attributes.get('autoport') !== 'yes';
  const ports = ['port', 'tlsPort'].map((name) => Number(attributes.get(name) ?? ''));
  const listens = elementsAt(graphics, 'listen');
  const named =
    listens.length === 0
      ? [attributes.get('listen')]
      : listens.map((one) =>
          one.attributes.get('type') === 'address' ? one.attributes.get('address') : undefined,
        );
  return {
    kind: attributes.get('type') ?? '',
    ports: isFixed ? ports.filter((port) => Number.isInteger(port) && port > 0 && port < 65_536) : [],
    // A name means on each host what its resolver says.
    addresses: named.filter(
      (address): address is string => address !== undefined && isIpAddress(address) && !ANYWHERE.has(address),
    ),
  };
}

function outputOf(device: XmlElement): string[] {
  const path = elementAt(device, 'source')?.attributes.get('path') ?? '';
  return device.attributes.get('type') === 'file' && path.startsWith('/') ? [path] : [];
}

function hugePagesOf(domain: XmlElement): VmSurroundings['hugePages'] {
  if (elementAt(domain, 'memoryBacking', 'hugepages') === undefined) return null;
  const pages = elementsAt(domain, 'memoryBacking', 'hugepages', 'page');
  // Of several sizes each is for some NUMA nodes of the guest: how much of which is not looked at.
  if (pages.length > 1) return null;
  const { size = '', unit = 'KiB' } = Object.fromEntries(pages[0]?.attributes ?? []);
  return { pageBytes: /^\d{1,9}$/.test(size) ? Number(size) * (UNITS[unit] ?? 1024) : null };
}
