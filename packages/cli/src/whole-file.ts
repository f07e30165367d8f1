import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeError, TrustError } from '@virt-trust/base/error.ts';

/**
 * Puts a file in place whole, synced, with its mode from the first moment on: whoever opens it sees the former or this
 * one. A directory that is not there is made where its mode is given. Throws `cli.file_unwritable`.
 */
export async function writeWholeFile(
  path: string,
  text: string,
  mode: number,
  directoryMode?: number,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    if (directoryMode !== undefined) await mkdir(dirname(path), { recursive: true, mode: directoryMode });
    // SECURITY: no other user, and no link of another user, gets hold of it in between.
    const file = await open(temporary, 'wx', mode);
    try {
      await file.chmod(mode);
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new TrustError('cli.file_unwritable', 'failed', `cannot write ${path}: ${describeError(cause)}`, {
      cause,
    });
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
