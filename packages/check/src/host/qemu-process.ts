import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DISPLAY_PORT_MIN } from '@virt-trust/libvirt/layout.ts';
import type { HostRoot } from './host-root.ts';
import { lineOf, property } from './text.ts';

/** What a display server demands of its clients, as it was started. */
export interface DisplayClients {
  readonly password: boolean;
  readonly certificate: boolean;
}

/** Where a VNC server of a VM listens, and the TLS directory that it started with. */
interface VncDisplay {
  listen: string;
  port: number;
  tlsDirectory: string | null;
  clients: DisplayClients;
}

/** The same of SPICE: `port` without TLS, `tlsPort` with it. */
interface SpiceDisplay {
  listen: string;
  port: number | null;
  tlsPort: number | null;
  tlsDirectory: string | null;
  clients: DisplayClients;
}

/** A QEMU of a VM, as the command line says that libvirt started it with. */
export interface QemuCommandLine {
  readonly uuid: string;
  readonly name: string;
  readonly vnc: VncDisplay[];
  readonly spice: SpiceDisplay[];
  /** Whether a VNC server of it demands certificates of viewers, so that a CRL matters to it. */
  readonly verifiesVncClients: boolean;
  /** TLS directories of character devices and of disks over NBD, which are read when the device is plugged. */
  readonly devices: readonly TlsDevice[];
}

/** A device of a VM that loaded certificates once. */
interface TlsDevice {
  readonly kind: 'chardev' | 'nbd';
  readonly directory: string;
}

export interface QemuProcess extends QemuCommandLine {
  readonly pid: number;
  readonly startTicks: number;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const PROGRAM = /(?:^|\/)qemu(?:-system-[a-z0-9_]+|-kvm)$/;
const MAX_VMS = 4096;
const COMMAND_LINE_LIMIT = 2 * 1024 * 1024;

/** The VMs' QEMU processes, found without libvirt, which may be stopped while they run. */
export async function readQemuProcesses(paths: HostRoot): Promise<QemuProcess[]> {
  const pids = (await readdir(paths.at('/proc'))).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: QemuProcess[] = [];
  for (const pid of pids) {
    const process = await readQemuProcess(paths, pid);
    if (process !== undefined && found.length < MAX_VMS) found.push(process);
  }
  return found;
}

async function readQemuProcess(paths: HostRoot, pid: number): Promise<QemuProcess | undefined> {
  const proc = paths.at('/proc');
  try {
    const bytes = await readFile(join(proc, `${pid}`, 'cmdline'));
    const text = bytes.subarray(0, COMMAND_LINE_LIMIT).toString('utf8');
    const line = parseQemuCommandLine(text);
    if (line === undefined || !(await isOfLibvirt(paths, pid, guestOf(text.split('\0'))))) return undefined;
    // A container's VMs are its own host's.
    if (isOfContainer(await readFile(join(proc, `${pid}`, 'status'), 'utf8'))) return undefined;
    const startTicks = parseStartTicks(await readFile(join(proc, `${pid}`, 'stat'), 'utf8'));
    return startTicks === undefined ? undefined : { ...line, pid, startTicks };
  } catch {
    // It ended meanwhile.
    return undefined;
  }
}

/**
 * SECURITY: any user can start what looks like a QEMU, and have the agent knock anywhere, wait for ever, or go back for
 * want of a proof. Only libvirt writes the process id of a VM there (qemu_process.c, qemuProcessLaunch).
 */
async function isOfLibvirt(paths: HostRoot, pid: number, name = '/'): Promise<boolean> {
  if (name.includes('/')) return false;
  const text = await readFile(paths.at(`/run/libvirt/qemu/${name}.pid`), 'utf8');
  return Number(text) === pid;
}

/** proc(5): NSpid has a number for each PID namespace below the reader's; one means the reader's own. */
function isOfContainer(status: string): boolean {
  return /^NSpid:\s+\d+\s+\d/m.test(status);
}

/** proc(5): field 22 of /proc/PID/stat, counted after the name, which may hold anything. */
export function parseStartTicks(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[19]);
  return fields.length > 19 && Number.isSafeInteger(ticks) && ticks >= 0 ? ticks : undefined;
}

/** Reads a /proc/PID/cmdline; undefined where it is no QEMU that libvirt started. */
export function parseQemuCommandLine(commandLine: string): QemuCommandLine | undefined {
  const words = commandLine.split('\0');
  if (!PROGRAM.test(words[0] ?? '')) return undefined;
  const uuid = valuesOf(words, '-uuid')[0] ?? '';
  const name = guestOf(words);
  if (!UUID.test(uuid) || name === undefined || name === '') return undefined;
  const directories = new Map<string, string>();
  const verifying = new Set<string>();
  for (const object of valuesOf(words, '-object')) {
    const { type, id, directory, verifies } = readObject(object);
    if (type !== 'tls-creds-x509' || id === undefined || directory === undefined) continue;
    directories.set(id, directory);
    if (verifies) verifying.add(id);
  }
  const displays = valuesOf(words, '-vnc');
  const vnc = displays.flatMap((value) => readVnc(value, directories, verifying));
  const verifiesVncClients = vnc.some(({ clients }) => clients.certificate);
  const spice = valuesOf(words, '-spice').flatMap(readSpice);
  return {
    uuid,
    name: lineOf(name, 255),
    vnc: vnc.slice(0, 8),
    spice: spice.slice(0, 8),
    verifiesVncClients,
    devices: devicesOf(directories),
  };
}

/** The VM's name as libvirt has it. */
function guestOf(words: readonly string[]): string | undefined {
  return optionsOf(valuesOf(words, '-name')[0] ?? '').get('guest');
}

/** By the names that libvirt gives their credentials: `objcharserial0_tls0`, `objlibvirt-1-storage_tls0`. */
function devicesOf(directories: ReadonlyMap<string, string>): TlsDevice[] {
  return [...directories]
    .flatMap(([id, directory]): TlsDevice[] => {
      if (!id.endsWith('_tls0') || pathOrNull(directory) === null) return [];
      if (id.startsWith('objchar')) return [{ kind: 'chardev', directory }];
      return /^obj(?:libvirt-\d+-storage|.*disk)/.test(id) ? [{ kind: 'nbd', directory }] : [];
    })
    .slice(0, 64);
}

/** A credentials object verifies unless it is told not to (QEMU's property `verify-peer`). */
function readObject(text: string): { type?: unknown; id?: string; directory?: string; verifies?: boolean } {
  if (!text.startsWith('{')) {
    const options = optionsOf(text);
    const id = options.get('id');
    const directory = options.get('dir');
    return {
      type: text.split(',', 1)[0],
      ...(id === undefined ? {} : { id }),
      ...(directory === undefined ? {} : { directory }),
      verifies: !['off', 'no', 'false', 'n'].includes(options.get('verify-peer') ?? 'on'),
    };
  }
  try {
    const object: unknown = JSON.parse(text);
    const id = property(object, 'id');
    const directory = property(object, 'dir');
    return {
      type: property(object, 'qom-type'),
      ...(typeof id === 'string' ? { id } : {}),
      ...(typeof directory === 'string' ? { directory } : {}),
      verifies: property(object, 'verify-peer') !== false,
    };
  } catch {
    return {};
  }
}

/** `HOST:DISPLAY,...`; a display on a Unix socket has no port. */
function readVnc(
  value: string,
  directories: ReadonlyMap<string, string>,
  verifying: ReadonlySet<string>,
): VncDisplay[] {
  const found = /^(?:vnc=)?(\[[^\]]{1,100}\]|[^:,[\]]{0,255}):(\d{1,5})(?:,|$)/.exec(value);
  if (found?.[1] === undefined || found[1] === 'unix') return [];
  const port = DISPLAY_PORT_MIN + Number(found[2]);
  if (port > 65_535) return [];
  const options = optionsOf(value);
  const credentials = options.get('tls-creds');
  const directory = credentials === undefined ? undefined : directories.get(credentials);
  return [
    {
      listen: lineOf(found[1].replace(/^\[|\]$/g, ''), 255),
      port,
      tlsDirectory: pathOrNull(directory),
      clients: {
        password: isOn(options.get('password')) || options.has('password-secret'),
        certificate: credentials !== undefined && verifying.has(credentials),
      },
    },
  ];
}

/** `port=P,tls-port=T,addr=A,x509-dir=D,...`; a server on a Unix socket has no port. */
function readSpice(value: string): SpiceDisplay[] {
  const options = optionsOf(value);
  const port = portOf(options.get('port'));
  const tlsPort = portOf(options.get('tls-port'));
  if (port === null && tlsPort === null) return [];
  const tlsDirectory = tlsPort === null ? null : pathOrNull(options.get('x509-dir'));
  return [
    {
      listen: lineOf(options.get('addr') ?? '', 255),
      port,
      tlsPort,
      tlsDirectory,
      // It asks for its ticket unless it is told not to, and for certificates never.
      clients: { password: !isOn(options.get('disable-ticketing')), certificate: false },
    },
  ];
}

function isOn(text: string | undefined): boolean {
  return text === 'on' || text === 'yes' || text === 'true';
}

function portOf(text: string | undefined): number | null {
  const port = /^\d{1,5}$/.test(text ?? '') ? Number(text) : 0;
  return port > 0 && port <= 65_535 ? port : null;
}

function pathOrNull(path: string | undefined): string | null {
  return path !== undefined && /^\/[^\p{Cc}]{0,4000}$/u.test(path) ? path : null;
}

function valuesOf(words: readonly string[], option: string): string[] {
  return words.flatMap((word, index) => (word === option ? (words[index + 1] ?? []) : []));
}

/** QEMU's `key=value,key=value`, where a comma in a value is written twice. */
function optionsOf(text: string): Map<string, string> {
  const options = new Map<string, string>();
  for (const part of text.replaceAll(',,', '\u0001').split(',')) {
    const equals = part.indexOf('=');
    if (equals > 0) options.set(part.slice(0, equals), part.slice(equals + 1).replaceAll('\u0001', ','));
  }
  return options;
}
