import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isSystemProgram } from '@virt-trust/libvirt/migration-definition.ts';
import { elementAt, parseXml } from '@virt-trust/libvirt/xml-tree.ts';
import type { DestinationFacts } from './destination-checks.ts';
import type { FilesSeen } from './host-files.ts';
import type { LibvirtQuestions } from './libvirt-questions.ts';
import type { VmLink, VmNeeds } from './vm-needs.ts';

const POOLS_LIMIT = 256;

/**
 * What a host has of what a VM needs. Of another than this one `libvirt` alone is asked: its files, bridges and memory
 * are not seen, and taken to be there, as are files of this one that were not looked at.
 */
export async function readDestinationFacts(
  needs: VmNeeds,
  xml: string,
  libvirt: LibvirtQuestions,
  isHere = true,
  files: FilesSeen | null = null,
): Promise<DestinationFacts> {
  const paths = [...needs.disks.flatMap(({ path }) => (path === null ? [] : [path])), ...needs.bootFiles];
  const missing = new Set(files?.missing);
  const isTried = !isHere || mayTry(needs.emulator);
  const [all, pools, links, machineRefused, availableMemoryBytes] = await Promise.all([
    libvirt.vms('--all'),
    needs.disks.some(({ path }) => path !== null) ? readPools(libvirt) : new Set<string>(),
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
  return {
    troubles: new Map(files?.troubles),
    images: new Map(files?.images),
    sameUuid:
      nameOfUuid === undefined ? null : { name: nameOfUuid, active: await isActive(needs.uuid, libvirt) },
    sameName: [...all].find(([, name]) => name === needs.name)?.[0] ?? null,
    paths: new Set(paths.filter((path) => !missing.has(path))),
    pools,
    freeBytes: new Map(files?.freeBytes),
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
