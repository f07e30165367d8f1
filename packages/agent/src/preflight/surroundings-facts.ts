import { readFile } from 'node:fs/promises';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { readListeningPorts } from '@virt-trust/check/host/sockets.ts';
import { readOwnAddresses } from '../services/reach.ts';
import type { FilesSeen } from './host-files.ts';
import type { LibvirtQuestions } from './libvirt-questions.ts';
import type { SurroundingsFacts } from './surroundings-checks.ts';
import type { VmSurroundings } from './vm-surroundings.ts';

/** What a host has of what surrounds a VM. Of another than this one libvirt alone is asked. */
export async function readSurroundings(
  { filters, displays, hugePages }: VmSurroundings,
  libvirt: LibvirtQuestions,
  run: RunHostCommand,
  isHere = true,
  files: Pick<FilesSeen, 'directories'> | null = null,
): Promise<SurroundingsFacts> {
  const wantsAddresses = displays.some(({ addresses }) => addresses.length > 0);
  const [known, listening, isOwn, freeHugePages] = await Promise.all([
    filters.length === 0 ? [] : libvirt.lines(['nwfilter-list']),
    isHere && displays.some(({ ports }) => ports.length > 0) ? readListeningPorts(run) : null,
    isHere && wantsAddresses && !(await bindsForeign()) ? readOwnAddresses(run) : null,
    isHere && hugePages !== null ? readFreeHugePages(hugePages.pageBytes) : null,
  ]);
  // A UUID, then the name; the heading has none.
  const defined = new Set(known.map((line) => /^[0-9a-f-]{36}\s+(.*)$/.exec(line)?.[1] ?? ''));
  return {
    filters: new Set(filters.filter((filter) => defined.has(filter))),
    listening,
    isOwn,
    directories: files === null ? null : new Set(files.directories),
    freeHugePages,
  };
}

/** ip(7): a kernel that was told so lets sockets listen at addresses that it has not. */
async function bindsForeign(): Promise<boolean> {
  const text = await readFile('/proc/sys/net/ipv4/ip_nonlocal_bind', 'utf8').catch(() => '0');
  return text.trim() === '1';
}

/** The kernel's hugetlbpage.rst: `free_hugepages` by size; the default one is in /proc/meminfo. */
async function readFreeHugePages(pageBytes: number | null): Promise<number | null> {
  const text = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const kib = pageBytes === null ? /^Hugepagesize:\s+(\d{1,9}) kB$/m.exec(text)?.[1] : pageBytes / 1024;
  if (kib === undefined) return null;
  const free = await readFile(`/sys/kernel/mm/hugepages/hugepages-${kib}kB/free_hugepages`, 'utf8').catch(
    () => '0',
  );
  return Number(free.trim()) * Number(kib) * 1024;
}
