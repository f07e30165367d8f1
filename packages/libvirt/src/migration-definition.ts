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
/** The system's own places, and those of them that VMs have business with. */
const SYSTEM =
  /^\/(?:bin|boot|etc|lib\w*|proc|root|run|sbin|sys|usr|var\/(?:backups|cache|lib\/(?:dpkg|rpm|systemd|virt-trust|libvirt\/(?:dnsmasq|lockd|network|sanlock|secrets|storage|swtpm|qemu\/(?!channel\/|nvram\/|ram\/)[^/]*))|mail|run|spool)|home\/(?:.*\/)?\.[^/]+|dev)(?:\/|$)/;
const OF_VMS =
  /^\/(?:usr\/(?:local\/)?share\/|(?:var\/)?run\/(?:libvirt\/qemu\/channel|openvswitch)\/|dev\/(?:net\/tun|vhost-net|vhost-vsock|kvm|null|zero|u?random|hwrng|hugepages|dri\/\w+)(?:\/|$))/;
/** Of a disk of blocks: whatever is neither memory, a terminal nor a human's. */
const NO_DISK = /^\/dev\/(?:bus|char|fd|input|k?mem|kmsg|port|pts|shm|std\w+|tty\w*|console|vfio)(?:\/|$)/;
/** Where virtlogd, who is root, may write what a VM says. */
const LOGS = /^\/(?:var\/log|var\/lib\/(?:libvirt\/images|nova)|tmp)\/./;
/** Devices that are the host's, and programs that libvirtd would start as root. */
const UNDUE: ReadonlySet<string> = new Set(['hostdev', 'filesystem', 'script', 'downscript', 'binary']);
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
  const domain = parseXml(xml);
  const found = new Set<string>();
  const ownAttributes: XmlElement = { ...domain, children: [] };
  look(ownAttributes, undefined, found);
  for (const child of domain.children) if (!WORDS.has(child.name)) walk(child, domain, found);
  for (const label of elementsAt(domain, 'seclabel'))
    if (!isOrdinary(label)) found.add('a <seclabel> of its own');
  return [...found].slice(0, 16);
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
  if (name === 'disk' && DISKS_OF_THE_HOST.has(attributes.get('type')))
    found.add(`<disk type='${attributes.get('type')}'>`);
  if (attributes.get('rawio') === 'yes') found.add("rawio='yes'");
  if (name === 'seclabel' && parent?.name !== 'domain' && element.children.length > 0)
    found.add('a <seclabel> of its own');
  if (name === 'emulator') {
    if (!isSystemProgram(text)) found.add(`<emulator>${text.slice(0, 200)}</emulator>`);
    return;
  }
  // libvirt gives each such console a terminal of its own, whatever stands here.
  if (isTerminal(element) || (name === 'source' && isTerminal(parent))) return;
  for (const value of [text, ...attributes.values()])
    if (value.includes('/') && !mayName(value, element, parent)) found.add(`the path ${value.slice(0, 200)}`);
}

function mayName(value: string, element: XmlElement, parent: XmlElement | undefined): boolean {
  // libvirtd and QEMU stand at the root: etc/shadow is /etc/shadow.
  const path = posix.normalize(`/${value}`);
  const isLog =
    element.name === 'log' || (element.name === 'source' && !isDisk(parent) && typeOf(parent) === 'file');
  if (isLog) return LOGS.test(path);
  if (path.startsWith('/dev/') && element.name === 'source' && isDisk(parent)) return !NO_DISK.test(path);
  return !SYSTEM.test(path) || OF_VMS.test(path);
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
