import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join, posix } from 'node:path';

/** Where a path of the host's is, below the root of a test. */
type At = (hostPath: string) => string;

const CLASS = '/sys/class/block';
/** More than any host has on top of one another. */
const MOST = 4096;
/** As many as the kernel follows (path_resolution(7)). */
const MOST_LINKS = 40;

/**
 * Which of the paths lead to a disk that this host has mounted or swaps to, by itself, by a partition or by what is made
 * of it (LVM, RAID, multipath). SECURITY: a VM with such a disk writes the host's own files.
 */
export async function mountedDisks(paths: readonly string[], at: At): Promise<string[]> {
  const known = await devicesByName(at);
  const used = await usedNumbers(at, known);
  const found = new Set<string>();
  for (const path of paths) {
    const number = await numberOf(path, at, known);
    if (number === undefined) continue;
    for (const each of await madeOf(number, at)) if (used.has(each)) found.add(path);
  }
  return [...found];
}

/**
 * The names of disks below `/dev`, with their numbers, `MAJOR:MINOR`. From the kernel and udev's record (udevadm(8)), since
 * the agent has a `/dev` of its own, in which they are not.
 */
async function devicesByName(at: At): Promise<ReadonlyMap<string, string>> {
  const known = new Map<string, string>();
  for (const entry of await readdir(at(CLASS)).catch((): string[] => [])) {
    const number = (await textOf(at(`${CLASS}/${entry}/dev`))).trim();
    if (number === '') continue;
    // sysfs writes a slash so.
    known.set(`/dev/${entry.replaceAll('!', '/')}`, number);
    known.set(`/dev/block/${number}`, number);
    const mapped = (await textOf(at(`${CLASS}/${entry}/dm/name`))).trim();
    if (mapped !== '') known.set(`/dev/mapper/${mapped}`, number);
    for (const [, link] of (await textOf(at(`/run/udev/data/b${number}`))).matchAll(/^S:(.+)$/gm))
      known.set(`/dev/${link}`, number);
  }
  return known;
}

/** Of a disk, wherever the path leads; undefined where it is none. */
async function numberOf(
  path: string,
  at: At,
  known: ReadonlyMap<string, string>,
): Promise<string | undefined> {
  let place = path;
  for (let link = 0; link < MOST_LINKS && !known.has(place); link++) {
    const target = await readlink(at(place)).catch(() => undefined);
    if (target === undefined) break;
    place = posix.resolve(posix.dirname(place), target);
  }
  const named = known.get(place);
  if (named !== undefined) return named;
  const found = await stat(at(place)).catch(() => undefined);
  if (found?.isBlockDevice() !== true) return undefined;
  // makedev(3), as the kernel encodes it.
  const { rdev } = found;
  return `${Math.floor(rdev / 0x100) & 0xfff}:${(rdev & 0xff) | (Math.floor(rdev / 0x1000) & 0xfff00)}`;
}

/** Of what is mounted, whatever for, and swapped to (proc(5)); a file system of several disks names one of them. */
async function usedNumbers(at: At, known: ReadonlyMap<string, string>): Promise<Set<string>> {
  const [mounts, swaps] = [await textOf(at('/proc/1/mountinfo')), await textOf(at('/proc/swaps'))];
  const lines = mounts.split('\n');
  const names = [
    ...lines.map((line) => line.split(' - ')[1]?.split(' ')[1] ?? ''),
    ...swaps.split('\n').map((line) => line.split(/\s/)[0] ?? ''),
  ].filter((name) => name.startsWith('/dev/'));
  const numbers = await Promise.all([...new Set(names)].map((name) => numberOf(name, at, known)));
  return new Set([
    ...lines.map((line) => line.split(' ')[2] ?? ''),
    ...numbers.map((number) => number ?? ''),
  ]);
}

/** The device itself, its partitions, and all that stands on one of them. */
async function madeOf(number: string, at: At): Promise<ReadonlySet<string>> {
  const family = new Set([number]);
  for (const each of family) {
    if (family.size > MOST) break;
    const directory = at(`/sys/dev/block/${each}`);
    const partitions = await readdir(directory).catch((): string[] => []);
    const holders = await readdir(join(directory, 'holders')).catch((): string[] => []);
    for (const name of partitions)
      if ((await textOf(join(directory, name, 'partition'))) !== '')
        family.add((await textOf(join(directory, name, 'dev'))).trim());
    for (const name of holders) family.add((await textOf(join(directory, 'holders', name, 'dev'))).trim());
  }
  family.delete('');
  return family;
}

async function textOf(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch(() => '');
}
