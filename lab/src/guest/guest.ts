import type { Host } from '../host.ts';
import { until } from '../until.ts';
import { bootSector, SECTOR_BYTES } from './boot-sector.ts';

const IMAGES = '/var/lib/libvirt/images';
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const FILL_TIMEOUT = 180_000;
/** The sectors that a guest with a disk writes; those behind are random and stay as they were made. */
const WRITTEN_SECTORS = 256;

/** A disk of the guest's own, which it boots from; `backing` is a raw base that every host has, below a qcow2 overlay. */
interface GuestDisk {
  readonly format: 'raw' | 'qcow2';
  readonly sizeMiB: number;
  readonly backing?: boolean;
}

/** A VM that fills its memory with what does not compress, dirties it, and says all the time that it lives. */
export interface Guest {
  readonly name: string;
  readonly memoryMiB: number;
  readonly dirtyMiBPerSecond: number;
  /** All of its memory, if absent. */
  readonly workingSetMiB?: number;
  readonly disk?: GuestDisk;
  /** Defined, so that it is there also while it is off; else it is gone once it is stopped or migrated away. */
  readonly persistent?: boolean;
}

/** What a guest said on one host since its QEMU there began. */
export interface GuestWords {
  /** How often it booted there: a guest that came live never did. */
  readonly hellos: number;
  readonly filled: boolean;
  /** Ticks of its life, one list for all hosts: who goes on goes on counting. */
  readonly ticks: readonly number[];
  /** How often it had looked at all of its memory and found it as it was. */
  readonly intact: number;
  readonly damaged: boolean;
}

/** What the disk of a guest holds that is off. */
export interface DiskContent {
  /** What each sector that the guest writes holds: the tick at which it wrote it last, 0 for never. */
  readonly ticks: readonly number[];
  /** SHA-256 of the rest. */
  readonly rest: string;
}

const diskPath = ({ name, disk }: Guest) => `${IMAGES}/${name}.${disk?.format ?? 'floppy'}`;
const basePath = ({ name }: Guest) => `${IMAGES}/${name}-base.raw`;
const serialPath = ({ name }: Guest) => `/var/log/libvirt/qemu/${name}.serial`;

/** The domain XML of the guest, under software emulation. */
export function guestXml(guest: Guest): string {
  const { disk } = guest;
  const medium =
    disk === undefined
      ? `<disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='${diskPath(guest)}'/><target dev='fda' bus='fdc'/><readonly/></disk>`
      : `<disk type='file' device='disk'><driver name='qemu' type='${disk.format}' cache='none'/><source file='${diskPath(guest)}'/><target dev='hda' bus='ide'/></disk>`;
  return `<domain type='qemu'>
  <name>${guest.name}</name>
  <memory unit='MiB'>${guest.memoryMiB}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='${disk === undefined ? 'fd' : 'hd'}'/></os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    ${medium}
    <controller type='usb' model='none'/>
    <serial type='file'><source path='${serialPath(guest)}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
`;
}

/** Puts the guest's files on the host where it begins, starts it and waits until its memory is full. */
export async function startGuest(host: Host, guest: Guest): Promise<void> {
  if (guest.disk === undefined) await receiveGuest(host, guest);
  else await makeDisk(host, guest, guest.disk);
  const xml = `/run/${guest.name}.xml`;
  await host.writeFile(xml, guestXml(guest));
  if (guest.persistent === true) {
    await host.run([...VIRSH, 'define', xml]);
    await host.run([...VIRSH, 'start', guest.name]);
  } else await host.run([...VIRSH, 'create', xml]);
  await until(`see ${guest.name} fill its memory on ${host.name}`, FILL_TIMEOUT, async () =>
    (await guestWords(host, guest)).filled ? true : undefined,
  );
}

/**
 * Puts on a host what must be there for the guest to come: the floppy that it never reads again, or, where its disk is
 * to be copied, an empty one of its size (above its base, which `shareBase` brings).
 */
export async function receiveGuest(host: Host, guest: Guest): Promise<void> {
  const { disk } = guest;
  if (disk === undefined) {
    const floppy = Buffer.alloc(1_474_560);
    sectorOf(guest).copy(floppy);
    await host.writeFile(diskPath(guest), floppy);
  } else await createImage(host, guest, disk);
}

/** Brings the base of a guest's disk to a host, as it is below the overlay on the first. */
export async function shareBase(from: Host, to: Host, guest: Guest): Promise<void> {
  const base = await from.run(['base64', '-w0', basePath(guest)]);
  await to.writeFile(basePath(guest), Buffer.from(base, 'base64'));
}

/** What the guest said on the host since QEMU began there; nothing where it never was. */
export async function guestWords(host: Host, guest: Guest): Promise<GuestWords> {
  const { code, stdout } = await host.exec(['cat', serialPath(guest)]);
  return parseGuestWords(code === 0 ? stdout : '');
}

/** Reads what the boot sector writes to the serial port; a line that has not ended does not count. */
export function parseGuestWords(text: string): GuestWords {
  const lines = text.split('\n').slice(0, -1);
  const count = (word: string) => lines.filter((line) => line === word).length;
  const ticks = lines.flatMap((line) => {
    const digits = /^beat ([0-9A-F]{8})$/.exec(line)?.[1];
    return digits === undefined ? [] : [Number.parseInt(digits, 16)];
  });
  const filled = count('filled') > 0 || ticks.length > 0;
  return { hellos: count('hello'), filled, ticks, intact: count('intact'), damaged: count('damaged') > 0 };
}

/** Waits until the guest, which came live to the host, has found all of its memory whole there; throws where it did not. */
export async function findIntact(host: Host, guest: Guest): Promise<GuestWords> {
  // The first look may have begun on the host that it came from.
  const words = await until(`see ${guest.name} whole on ${host.name}`, FILL_TIMEOUT, async () => {
    const now = await guestWords(host, guest);
    return now.damaged || now.hellos > 0 || now.intact > 1 ? now : undefined;
  });
  if (words.damaged || words.hellos > 0)
    throw new Error(
      `${guest.name} on ${host.name} ${words.damaged ? 'found its memory damaged' : 'was restarted'}`,
    );
  return words;
}

/** What the disk on the host holds; the guest must be off. */
export async function diskContent(host: Host, guest: Guest): Promise<DiskContent> {
  const raw = `/var/tmp/${guest.name}.content`;
  await host.run(['qemu-img', 'convert', '-O', 'raw', diskPath(guest), raw]);
  const written = (1 + WRITTEN_SECTORS) * SECTOR_BYTES;
  const script = 'head -c "$2" "$1" | base64 -w0; echo; tail -c "+$(($2 + 1))" "$1" | sha256sum; rm "$1"';
  const said = await host.run(['sh', '-c', script, 'sh', raw, String(written)]);
  const [head = '', rest = ''] = said.split('\n');
  const sectors = Buffer.from(head, 'base64');
  const ticks = Array.from({ length: WRITTEN_SECTORS }, (_, index) => {
    const sector = sectors.subarray((index + 1) * SECTOR_BYTES, (index + 2) * SECTOR_BYTES);
    const tick = sector.readUInt32LE(0);
    for (let at = 0; at < SECTOR_BYTES; at += 4)
      if (sector.readUInt32LE(at) !== tick) throw new Error(`sector ${index + 1} of ${guest.name} is torn`);
    return tick;
  });
  return { ticks, rest: rest.slice(0, 64) };
}

/** What the guest's own image takes on the host's disk; the guest must be off. */
export async function imageOctets(host: Host, guest: Guest): Promise<number> {
  const said = await host.run(['qemu-img', 'info', '--output=json', diskPath(guest)]);
  return (JSON.parse(said) as { 'actual-size': number })['actual-size'];
}

/** Whether the sectors are what a guest leaves that wrote all of them until the last tick: none lost, none too old. */
export function wroteOn({ ticks }: DiskContent): boolean {
  const last = Math.max(...ticks);
  return ticks.every((tick, index) => {
    const age = (last - index + ticks.length * 2 ** 24) % ticks.length;
    return tick === Math.max(0, last - age);
  });
}

function sectorOf({ memoryMiB, workingSetMiB = memoryMiB - 1, dirtyMiBPerSecond, disk }: Guest): Buffer {
  const diskSectors = disk === undefined ? 0 : WRITTEN_SECTORS;
  return bootSector({ memoryMiB, workingSetMiB, dirtyMiBPerSecond, diskSectors });
}

/** Random behind the boot sector and the zeroes that the guest will write to. */
async function makeDisk(host: Host, guest: Guest, disk: GuestDisk): Promise<void> {
  const raw = disk.backing === true ? basePath(guest) : `${diskPath(guest)}.content`;
  await host.run(['dd', 'if=/dev/urandom', `of=${raw}`, 'bs=1M', `count=${disk.sizeMiB}`, 'status=none']);
  const head = Buffer.alloc((1 + WRITTEN_SECTORS) * SECTOR_BYTES);
  sectorOf(guest).copy(head);
  await host.run(['dd', `of=${raw}`, 'conv=notrunc', 'status=none'], { input: head });
  if (disk.backing === true) await createImage(host, guest, disk);
  else {
    await host.run(['qemu-img', 'convert', '-f', 'raw', '-O', disk.format, raw, diskPath(guest)]);
    await host.run(['rm', raw]);
  }
}

async function createImage(host: Host, guest: Guest, disk: GuestDisk): Promise<void> {
  const backing = disk.backing === true ? ['-b', basePath(guest), '-F', 'raw'] : [];
  const size = `${disk.sizeMiB}M`;
  await host.run(['qemu-img', 'create', '-q', '-f', disk.format, ...backing, diskPath(guest), size]);
}
