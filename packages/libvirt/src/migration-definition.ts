import { posix } from 'node:path';
import { elementsAt, parseXml, type XmlElement } from './xml-tree.ts';

/** Which VM a definition is of. */
interface DefinedVm {
  readonly name: string;
  /** In lower case. */
  readonly uuid: string;
}

/** The VM of a definition; null where it names none, or several. Throws `xml.malformed`. */
export function definedVm(xml: string): DefinedVm | null {
  const domain = parseXml(xml);
  const [names, uuids] = [elementsAt(domain, 'name'), elementsAt(domain, 'uuid')];
  const [name] = names;
  const [uuid] = uuids;
  if (domain.name !== 'domain' || name === undefined || uuid === undefined) return null;
  if (names.length > 1 || uuids.length > 1 || name.children.length + uuid.children.length > 0) return null;
  return { name: name.text, uuid: uuid.text.toLowerCase() };
}

/** What QEMU may be: a program that came with the system. */
const EMULATOR = /^\/(?:usr|opt)\/(?:[\w.+-]+\/)*[\w.+-]+$/;
/** Below `/var/lib` and `/opt`, what is VMs'; the rest is that of services and programs. */
const STATE_OF_VMS = 'images|kvm|machines|nova|one|qemu|vdsm|vms?|vz';
/** The system's own places, and those of them that VMs have business with. */
const SYSTEM = new RegExp(
  `^/(?:bin|boot|dev|etc|initrd[^/]*|lib\\w*|opt(?!/(?:stack|${STATE_OF_VMS})/)|proc|root|run|sbin|snap|swap[^/]*|sys|usr|vmlinuz[^/]*|var/(?:backups|cache|db|log|mail|run|snap|spool|www|lib(?!/(?:libvirt|${STATE_OF_VMS})/)|lib/libvirt/(?:dnsmasq|lockd|network|sanlock|secrets|storage|swtpm|qemu/(?!channel/|nvram/|ram/)[^/]*))|home/(?:.*/)?\\.[^/]+)(?:/|$)`,
);
const OF_VMS =
  /^\/dev\/(?:net\/tun|vhost-net|vhost-vsock|kvm|null|zero|u?random|hwrng|hugepages|dri\/\w+)(?:\/|$)/;
/** Firmware, drivers and the like, which QEMU reads. */
const SHARED = /^\/usr\/(?:local\/)?share\//;
const READ_ONLY: ReadonlySet<string> = new Set(['kernel', 'initrd', 'dtb', 'table', 'rom']);
/** Sockets that QEMU makes there for libvirt; to connect to another VM's is not for a VM. */
const CHANNELS = /^\/(?:(?:var\/)?run|var\/lib)\/libvirt\/qemu\/channel\//;
const SWITCH = /^\/(?:var\/)?run\/openvswitch\//;
/** Of a disk of blocks: whatever is neither memory, a terminal nor a human's. */
const NO_DISK = /^\/dev\/(?:bus|char|fd|input|k?mem|kmsg|port|pts|shm|std\w+|tty\w*|console|vfio)(?:\/|$)/;
/** Where virtlogd, who is root, may write what a VM says. */
const LOGS =
  /^\/(?:var\/log\/(?:consoles?|guests?|libvirt|qemu|vms?)|var\/lib\/(?:libvirt\/images|nova)|tmp)\/./;
/** Devices that are the host's, and programs that libvirtd would start as root. */
const UNDUE: ReadonlySet<string> = new Set(['hostdev', 'filesystem', 'script', 'downscript', 'binary']);
/** Elements of which libvirt reads the text of all that is in them as one. */
const TEXTS: ReadonlySet<string> = new Set([
  ...[
    'kernel',
    'initrd',
    'dtb',
    'cmdline',
    'root',
    'init',
    'initarg',
    'loader',
    'nvram',
    'table',
    'bootloader',
  ],
  ...['bootloader_args', 'type', 'emulator', 'backend', 'path', 'partition', 'database', 'certificate'],
  ...['label', 'imagelabel', 'baselabel', 'key', 'lockspace', 'dhCert', 'session', 'entry'],
]);
/** Attributes that name files also where they have no slash. */
const FILES: ReadonlySet<string> = new Set(['file', 'path', 'dir']);
const DISKS_OF_THE_HOST: ReadonlySet<string | undefined> = new Set(['nvme', 'dir', 'vhostvdpa']);
const CONSOLES: ReadonlySet<string> = new Set(['serial', 'parallel', 'console', 'channel']);
/** Words for people, at the top of a definition. */
const WORDS: ReadonlySet<string> = new Set(['metadata', 'title', 'description']);

/**
 * Whether an emulator is a program of the system's own. SECURITY: libvirtd runs an emulator that it is merely asked about,
 * and storage that hosts share is written by each of them.
 */
export function isSystemProgram(path: string): boolean {
  return EMULATOR.test(path) && posix.normalize(path) === path;
}

/**
 * What in a VM's definition would give whoever wrote it more of a host than a VM has: other programs, other users, the
 * host's own devices and files. In words; empty where nothing does. Throws `xml.malformed`.
 *
 * SECURITY: libvirtd does for a definition what root may do, so that one from a host that somebody broke into is not to be
 * started for its word alone.
 */
export function undueParts(xml: string): string[] {
  // SECURITY: one that names an encoding has libvirt read other characters than were judged; libvirt writes none.
  if (xml.includes('<?') || xml.startsWith('\ufeff')) return ['an <?xml?> declaration or instruction'];
  if (xml.includes('<![CDATA[')) return ['a CDATA section, which no cookie may have'];
  const domain = parseXml(xml);
  const found = new Set<string>();
  const ownAttributes: XmlElement = { ...domain, children: [] };
  look(ownAttributes, undefined, found);
  for (const child of domain.children) if (!WORDS.has(child.name)) walk(child, domain, found);
  for (const label of elementsAt(domain, 'seclabel'))
    if (!isOrdinary(label)) found.add('a <seclabel> of its own');
  return [...found].slice(0, 16);
}

/** The paths that a definition names, wherever it does, as seen from the root; at most 4096. Throws `xml.malformed`. */
export function namedPaths(xml: string): string[] {
  const found = new Set<string>();
  const collect = ({ text, attributes, children }: XmlElement): void => {
    for (const value of [text, ...attributes.values()])
      if (value.includes('/')) found.add(posix.normalize(`/${value}`));
    for (const child of children) if (found.size < 4096) collect(child);
  };
  collect(parseXml(xml));
  return [...found];
}

function walk(element: XmlElement, parent: XmlElement, found: Set<string>): void {
  look(element, parent, found);
  for (const child of element.children) walk(child, element, found);
}

function look(element: XmlElement, parent: XmlElement | undefined, found: Set<string>): void {
  const { name, attributes, text } = element;
  // Whatever its prefix: qemu:commandline and its like.
  if (name.includes(':') || [...attributes.keys()].some((key) => /^xmlns(?::|$)/.test(key)))
    found.add(`<${name}> of another namespace`);
  if (UNDUE.has(name)) found.add(`<${name}>`);
  const type = attributes.get('type');
  if (name === 'disk' && DISKS_OF_THE_HOST.has(type)) found.add(`<disk type='${type}'>`);
  if (name === 'interface' && type === 'hostdev') found.add("<interface type='hostdev'>");
  if (name === 'source' && parent?.name === 'interface' && attributes.get('mode') === 'passthrough')
    found.add("<interface type='direct'> in mode passthrough");
  if (name === 'smartcard' && attributes.get('mode')?.startsWith('host') === true)
    found.add("the host's <smartcard>");
  if (attributes.get('rawio') === 'yes') found.add("rawio='yes'");
  if (attributes.get('sgio') === 'unfiltered') found.add("sgio='unfiltered'");
  // SECURITY: libvirt would read it together, and here each is judged by itself.
  if (element.children.length > 0 && (text !== '' || (TEXTS.has(name) && hasText(element))))
    found.add(`text around what is in <${name}>`);
  if (name === 'seclabel' && parent?.name !== 'domain' && element.children.length > 0)
    found.add('a <seclabel> of its own');
  if (name === 'emulator') {
    if (!isSystemProgram(text)) found.add(`<emulator>${text.slice(0, 200)}</emulator>`);
    return;
  }
  // libvirt gives each such console a terminal of its own, whatever stands here.
  if (isTerminal(element) || (name === 'source' && isTerminal(parent))) return;
  const places = [...attributes].filter(([key, value]) => value.includes('/') || FILES.has(key));
  for (const value of [...(text.includes('/') ? [text] : []), ...places.map(([, place]) => place)])
    if (!mayName(value, element, parent)) found.add(`the path ${value.slice(0, 200)}`);
}

/** Of a value with a path within, as in `unix:/run/x`, that too. */
function mayName(value: string, element: XmlElement, parent: XmlElement | undefined): boolean {
  const within = value.split(/[:=,]/).filter((part, at) => at > 0 && part.startsWith('/'));
  return [value, ...within].every((path) => mayHave(path, element, parent));
}

function mayHave(value: string, element: XmlElement, parent: XmlElement | undefined): boolean {
  const { name, attributes } = element;
  // libvirtd and QEMU stand at the root: etc/shadow is /etc/shadow.
  const path = posix.normalize(`/${value}`);
  if (name === 'log' || (name === 'source' && !isDisk(parent) && typeOf(parent) === 'file'))
    return LOGS.test(path);
  if (path.startsWith('/dev/') && name === 'source' && isDisk(parent)) return !NO_DISK.test(path);
  if (CHANNELS.test(path)) return attributes.get('mode') === 'bind';
  if (SWITCH.test(path)) return parent?.name === 'interface';
  if (SHARED.test(path)) return isOnlyRead(value, element, parent);
  return !SYSTEM.test(path) || OF_VMS.test(path);
}

/** SECURITY: libvirt would have QEMU's user own what a VM may write, and the system's own files are every program's. */
function isOnlyRead(
  value: string,
  { name, attributes, text }: XmlElement,
  parent: XmlElement | undefined,
): boolean {
  if (name === 'loader') return attributes.get('type') !== 'pflash' || attributes.get('readonly') === 'yes';
  if (name === 'nvram') return attributes.get('template') === value && text !== value;
  if (name !== 'source') return READ_ONLY.has(name);
  return (
    parent?.name === 'backingStore' ||
    (parent?.name === 'disk' &&
      (parent.attributes.get('device') === 'cdrom' || elementsAt(parent, 'readonly').length > 0))
  );
}

function hasText(element: XmlElement): boolean {
  return element.text !== '' || element.children.some(hasText);
}

function isDisk(element: XmlElement | undefined): boolean {
  return element !== undefined && ['disk', 'backingStore', 'mirror', 'dataStore'].includes(element.name);
}

function isTerminal(element: XmlElement | undefined): boolean {
  return element !== undefined && CONSOLES.has(element.name) && typeOf(element) === 'pty';
}

function typeOf(element: XmlElement | undefined): string | undefined {
  return element?.attributes.get('type');
}

/** What libvirt chooses by itself, or nothing where the host has no such protection. */
function isOrdinary({ attributes, children }: XmlElement): boolean {
  if (attributes.get('model') === 'none') return true;
  return (
    (attributes.get('type') ?? 'dynamic') === 'dynamic' && !children.some(({ name }) => name === 'baselabel')
  );
}
