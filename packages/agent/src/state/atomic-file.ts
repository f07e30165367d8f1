import { constants } from 'node:fs';
import { open, readFile, rename, rm, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface FileAttributes {
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** Writers of one file take turns, because they share the name of its new version. */
const writing = new Map<string, Promise<unknown>>();

/** Replaces a file as a whole and durably: whoever reads sees the old or the new content, after a crash too. */
export function writeFileAtomic(
  path: string,
  content: Uint8Array | string,
  attributes: FileAttributes,
): Promise<void> {
  return inTurn(path, async () => {
    const next = nextName(path);
    await rm(next, { force: true });
    // SECURITY: made exclusively and without following links, closed to others before it holds a byte.
    const file = await open(
      next,
      constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW,
      0o600,
    );
    try {
      await file.writeFile(content);
      const { mode, uid, gid } = attributes;
      if (uid !== undefined || gid !== undefined) await file.chown(uid ?? -1, gid ?? -1);
      await file.chmod(mode);
      await file.sync();
    } catch (cause) {
      await rm(next, { force: true });
      // What a full disk says names no file.
      throw new Error(`cannot write ${path}`, { cause });
    } finally {
      await file.close();
    }
    await rename(next, path);
    await syncDirectory(dirname(path));
  });
}

/** Makes `path` a symbolic link to `target`, in place of whatever file or link is there, in one step and durably. */
export function replaceLink(path: string, target: string): Promise<void> {
  return inTurn(path, async () => {
    const next = nextName(path);
    await rm(next, { force: true });
    await symlink(target, next);
    await rename(next, path);
    await syncDirectory(dirname(path));
  });
}

/** Removes a file durably; one that is not there is fine. */
export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true });
  await syncDirectory(dirname(path)).catch(ignoreMissing);
}

/** The content of a file, undefined if there is none. */
export async function readFileIfPresent(path: string): Promise<Buffer | undefined> {
  return await readFile(path).catch(ignoreMissing);
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function nextName(path: string): string {
  return join(dirname(path), `.${basename(path)}.virt-trust-new`);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}

/** Runs the work of those who name the same path one after the other. */
export async function inTurn<T>(path: string, work: () => Promise<T>): Promise<T> {
  const turn = (writing.get(path) ?? Promise.resolve()).then(work, work);
  writing.set(path, turn);
  try {
    return await turn;
  } finally {
    if (writing.get(path) === turn) writing.delete(path);
  }
}
