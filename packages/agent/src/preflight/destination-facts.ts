import { mkdtemp, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkWay } from '@virt-trust/check/modes.ts';
import type { ReadingUser } from '@virt-trust/check/reader.ts';
import { isSystemProgram } from '@virt-trust/libvirt/migration-definition.ts';
import { elementAt, parseXml } from '@virt-trust/libvirt/xml-tree.ts';
import { type DestinationFacts, directoryOf } from './destination-checks.ts';
import { type ImageFacts, readImage } from './image-facts.ts';
import type { LibvirtQuestions } from './libvirt-questions.ts';
import type { VmLink, VmNeeds } from './vm-needs.ts';

const POOLS_LIMIT = 256;

/**
 * What a host has of what a VM needs. Of another than this one `libvirt` alone is asked: its files, bridges and memory
 * are not seen, and taken to be there.
 */
export async function readDestinationFacts(
  needs: VmNeeds,
  xml: string,
  libvirt: LibvirtQuestions,
  isHere = true,
  reader: DiskReader | undefined = undefined,
): Promise<DestinationFacts> {
  const paths = [...needs.disks.flatMap(({ path }) => (path === null ? [] : [path])), ...needs.bootFiles];
  const directories = [
    ...new Set(needs.disks.flatMap(({ path }) => (path === null ? [] : [directoryOf(path)]))),
  ];
  const isTried = !isHere || mayTry(needs.emulator);
  const [all, present, pools, freeBytes, links, machineRefused, availableMemoryBytes] = await Promise.all([
    libvirt.vms('--all'),
    isHere ? existing(paths) : new Set(paths),
    directories.length === 0 ? new Set<string>() : readPools(libvirt),
    isHere ? readFree(directories) : new Map<string, number>(),
    readLinks(needs.links, libvirt, isHere),
    isTried
      ? libvirt.objection([
          'domcapabilities',
          ...given('--virttype', needs.type),
          ...given('--arch', needs.architecture),
          ...given('--machine', needs.machine),
          ...given('--emulatorbin', needs.emulator),
        ])
      : null,
    isHere ? readAvailableMemory() : null,
  ]);
  const nameOfUuid = all.get(needs.uuid);
  const here = isHere ? [...present] : [];
  return {
    barred: await readBarred(here, reader),
    images: await readImages(here.filter((path) => needs.disks.some((disk) => disk.path === path))),
    sameUuid:
      nameOfUuid === undefined ? null : { name: nameOfUuid, active: await isActive(needs.uuid, libvirt) },
    sameName: [...all].find(([, name]) => name === needs.name)?.[0] ?? null,
    paths: present,
    pools,
    freeBytes,
    links,
    machineRefused,
    // Of a machine that is not run here nothing more can be asked.
    cpuRefused:
      isTried && machineRefused === null && (needs.cpu === 'checked' || needs.cpu === 'unchecked')
        ? await compareCpu(needs, xml, libvirt)
        : null,
    availableMemoryBytes,
  };
}

async function isActive(uuid: string, libvirt: LibvirtQuestions): Promise<boolean> {
  const lists = await Promise.all([libvirt.vms('--state-running'), libvirt.vms('--state-paused')]);
  return lists.some((list) => list.has(uuid));
}

/**
 * Whether this host's libvirt may be asked about an emulator. SECURITY: it starts what it is asked about, and which that is
 * is the word of the VM's source, which may have put a program where both hosts have their storage.
 */
export function mayTry(emulator: string): boolean {
  return emulator === '' || isSystemProgram(emulator);
}

function given(option: string, value: string): string[] {
  return value === '' ? [] : [option, value];
}

/** virConnectCompareHypervisorCPU: the CPU of a running VM has each feature in it that the guest sees. */
async function compareCpu(needs: VmNeeds, xml: string, libvirt: LibvirtQuestions): Promise<string | null> {
  // A file: virsh opens /dev/stdin by its name, which fails where that is a socket.
  const directory = await mkdtemp(join(tmpdir(), 'virt-trust-cpu-'));
  try {
    const file = join(directory, 'vm.xml');
    await writeFile(file, xml, { mode: 0o600 });
    return await libvirt.objection([
      'hypervisor-cpu-compare',
      '--file',
      file,
      '--error',
      ...given('--virttype', needs.type),
      ...given('--arch', needs.architecture),
      ...given('--machine', needs.machine),
      ...given('--emulator', needs.emulator),
    ]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function existing(paths: readonly string[]): Promise<Set<string>> {
  const found = new Set<string>();
  for (const path of paths) if ((await stat(path).catch(() => undefined)) !== undefined) found.add(path);
  return found;
}

/** QEMU's user of this host, and how to find out whether a path is open to it. */
export interface DiskReader {
  readonly user: ReadingUser | undefined;
  readonly mayReach: (path: string) => Promise<boolean>;
}

/** By the modes of the directories, and by trying: access lists say more than modes. */
async function readBarred(
  paths: readonly string[],
  reader: DiskReader | undefined,
): Promise<DestinationFacts['barred']> {
  const barred = new Map<string, { text: string; remedy: string }>();
  if (reader === undefined) return barred;
  for (const path of paths) {
    const [first] = await checkWay(path, reader.user);
    if (first === undefined || (await reader.mayReach(path))) continue;
    barred.set(path, { text: `${first.file}: ${first.text}`, remedy: first.remedy });
  }
  return barred;
}

async function readImages(paths: readonly string[]): Promise<ReadonlyMap<string, ImageFacts>> {
  const found = new Map<string, ImageFacts>();
  for (const path of paths) {
    const image = await readImage(path);
    if (image !== null) found.set(path, image);
  }
  return found;
}

async function readPools(libvirt: LibvirtQuestions): Promise<Set<string>> {
  const names = (await libvirt.lines(['pool-list', '--name'])).slice(0, POOLS_LIMIT);
  const targets = await Promise.all(
    names.map(async (name) => {
      const xml = await libvirt.tryAsk(['pool-dumpxml', '--pool', name]);
      return xml === undefined ? '' : (elementAt(parseXml(xml), 'target', 'path')?.text ?? '');
    }),
  );
  return new Set(targets.filter((path) => path !== ''));
}

async function readFree(directories: readonly string[]): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const directory of directories) {
    const system = await statfs(directory).catch(() => undefined);
    if (system !== undefined) found.set(directory, system.bavail * system.bsize);
  }
  return found;
}

async function readLinks(
  links: readonly VmLink[],
  libvirt: LibvirtQuestions,
  isHere: boolean,
): Promise<Set<string>> {
  const found = new Set<string>();
  if (links.length === 0) return found;
  const networks = new Set(await libvirt.lines(['net-list', '--name']));
  for (const { kind, name } of links) {
    // SECURITY: the name is a VM owner's word and becomes part of a path.
    const isThere =
      kind === 'network'
        ? networks.has(name)
        : !isHere ||
          (/^[^/\s]{1,15}$/.test(name) &&
            !name.startsWith('.') &&
            (await stat(`/sys/class/net/${name}`).catch(() => undefined)) !== undefined);
    if (isThere) found.add(`${kind} ${name}`);
  }
  return found;
}

async function readAvailableMemory(): Promise<number | null> {
  const text = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const found = /^MemAvailable:\s+(\d{1,15}) kB$/m.exec(text)?.[1];
  return found === undefined ? null : Number(found) * 1024;
}
