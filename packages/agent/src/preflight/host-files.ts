import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { shellWord } from '@virt-trust/base/shell-word.ts';
import { runHostCommand } from '@virt-trust/check/host/host-command.ts';
import { checkWay } from '@virt-trust/check/modes.ts';
import type { ReadingUser } from '@virt-trust/check/reader.ts';
import { directoryOf } from './directory-of.ts';
import { type ImageFacts, readImage } from './image-facts.ts';

/** Files of a host that are to be looked at, and as whom QEMU opens them. */
export interface FilesQuestion {
  readonly disks: readonly DiskFile[];
  /** Others that must be there: firmware, kernels, directories. */
  readonly others: readonly string[];
  /** Directories, whose free space is wanted. */
  readonly directories: readonly string[];
  readonly reader: ReadingUser | null;
  /** As whom it is tried whether QEMU gets to a file. */
  readonly user: { readonly uid: number; readonly gid: number } | null;
}

export interface DiskFile {
  readonly path: string;
  readonly kind: 'file' | 'block';
  readonly writes: boolean;
  /** Whether QEMU follows its bases as the images name them: qcow2 without a chain in the VM's XML. */
  readonly hasBases: boolean;
}

/** Why QEMU does not open a disk that is there. */
export interface DiskTrouble {
  readonly code: 'disk.unreadable' | 'disk.read_only' | 'disk.no_file' | 'disk.base_missing';
  readonly text: string;
  readonly remedy: string;
}

/** What was seen; lists of pairs, since it comes from another process. */
export interface FilesSeen {
  readonly missing: readonly string[];
  readonly directories: readonly string[];
  readonly images: readonly (readonly [string, ImageFacts])[];
  readonly troubles: readonly (readonly [string, readonly DiskTrouble[]])[];
  readonly freeBytes: readonly (readonly [string, number])[];
  /** f_type of statfs(2) of each disk, or of its directory where it is not there. */
  readonly systems: readonly (readonly [string, number])[];
}

/** More bases QEMU does not open (libvirt's own bound is 200). */
const MOST_BASES = 32;

/** Looks at files as this process sees them. SECURITY: their names may be another host's word, so little is read of them. */
export async function lookAtFiles(question: FilesQuestion): Promise<FilesSeen> {
  const { disks, others, directories } = question;
  const seen = {
    missing: [] as string[],
    directories: [] as string[],
    images: [] as [string, ImageFacts][],
    troubles: [] as [string, DiskTrouble[]][],
    freeBytes: [] as [string, number][],
    systems: [] as [string, number][],
  };
  for (const path of new Set([...disks.map((disk) => disk.path), ...others])) {
    const found = await look(path);
    if (found === 'missing') seen.missing.push(path);
    else if (found !== 'unknown' && found.isDirectory()) seen.directories.push(path);
  }
  for (const disk of disks) {
    const { path } = disk;
    const isThere = !seen.missing.includes(path);
    const system = await statfs(isThere ? path : directoryOf(path)).catch(() => undefined);
    // f_type is a signed number on some systems.
    if (system !== undefined) seen.systems.push([path, system.type >>> 0]);
    if (!isThere) continue;
    const image = await readImage(path);
    if (image !== null) seen.images.push([path, image]);
    seen.troubles.push([path, await troublesOf(disk, image, question)]);
  }
  for (const directory of new Set(directories)) {
    const system = await statfs(directory).catch(() => undefined);
    if (system !== undefined) seen.freeBytes.push([directory, system.bavail * system.bsize]);
  }
  return seen;
}

/** What root may not look at, as on an NFS that does not trust it, may be there all the same. */
async function look(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    return ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(code) ? 'missing' : 'unknown';
  }
}

async function troublesOf(
  { path, kind, writes, hasBases }: DiskFile,
  image: ImageFacts | null,
  question: FilesQuestion,
): Promise<DiskTrouble[]> {
  const found = await look(path);
  if (kind === 'file' && found !== 'missing' && found !== 'unknown' && found.isDirectory())
    return [{ code: 'disk.no_file', text: `${path} is a directory`, remedy: `have the image at ${path}` }];
  const shut = await shutFor(path, question, writes);
  if (shut !== undefined) return [shut];
  if (writes && (await isReadOnly(path)))
    return [
      {
        code: 'disk.read_only',
        text: `${path} is on a file system that is mounted read-only`,
        remedy: `mount it to be written: mount -o remount,rw "$(findmnt -n -o TARGET -T ${shellWord(path)})"`,
      },
    ];
  return hasBases && image?.format === 'qcow2' ? await basesTroubles(path, image, question) : [];
}

/** As libvirt and QEMU follow them: by the names that the images hold, until one is raw. */
async function basesTroubles(
  path: string,
  image: ImageFacts,
  question: FilesQuestion,
): Promise<DiskTrouble[]> {
  let [above, one]: [string, ImageFacts | null] = [path, image];
  for (let depth = 0; depth < MOST_BASES && one?.base != null; depth++) {
    const base: NonNullable<ImageFacts['base']> = one.base;
    if ((await look(base.path)) === 'missing')
      return [
        {
          code: 'disk.base_missing',
          text: `${above} is based on ${base.path}, which is not there`,
          remedy: `put the same base there, at ${base.path}`,
        },
      ];
    const shut = await shutFor(base.path, question, false);
    if (shut !== undefined) return [shut];
    [above, one] = [base.path, base.format === 'raw' ? null : await readImage(base.path)];
  }
  return [];
}

/**
 * A file to which QEMU's user does not get: not by the modes of the directories and neither by trying, since access lists
 * say more; or not by the file's own mode, whether libvirt makes it QEMU's (dynamic_ownership) or leaves it.
 */
async function shutFor(
  path: string,
  { reader, user }: FilesQuestion,
  writes: boolean,
): Promise<DiskTrouble | undefined> {
  if (reader === null || user === null || user.uid === 0) return undefined;
  const [way] = await checkWay(path, reader);
  if (way !== undefined && !(await can(user, ['stat', '-L', path])))
    return { code: 'disk.unreadable', text: `${way.file}: ${way.text}`, remedy: way.remedy };
  const found = await look(path);
  if (found === 'missing' || found === 'unknown' || !found.isFile()) return undefined;
  const bits = writes ? 0o600 : 0o400;
  if ((found.mode & bits) === bits) return undefined;
  const groups = (found.mode & (writes ? 0o060 : 0o040)) !== 0;
  if (groups || (await can(user, ['test', '-r', path, ...(writes ? ['-a', '-w', path] : [])])))
    return undefined;
  const mode = (found.mode & 0o7777).toString(8).padStart(4, '0');
  return {
    code: 'disk.unreadable',
    text: `${path} has mode ${mode}, with which not even its owner may ${writes ? 'read and write' : 'read'} it`,
    remedy: `chmod u+r${writes ? 'w' : ''} ${shellWord(path)}`,
  };
}

async function can(user: { uid: number; gid: number }, [program = '', ...args]: string[]): Promise<boolean> {
  return runHostCommand(program, args, user).then(
    () => true,
    () => false,
  );
}

/** access(2): of what may not be written otherwise this says something else. */
async function isReadOnly(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'EROFS',
  );
}
