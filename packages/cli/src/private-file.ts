import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { describeError, TrustError } from '@virt-trust/base/error.ts';

/** Puts a file in place whole, in place of what was there, with its mode from the first moment on. */
export async function writeWholeFile(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    // SECURITY: no other user, and no link of another user, gets hold of it in between.
    const file = await open(temporary, 'wx', mode);
    try {
      await file.chmod(mode);
      await file.writeFile(text);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new TrustError('cli.file_unwritable', 'failed', `cannot write ${path}: ${describeError(cause)}`, {
      cause,
    });
  }
}
