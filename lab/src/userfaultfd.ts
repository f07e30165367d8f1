import { readFile, writeFile } from 'node:fs/promises';
import { lock } from './process-lock.ts';

/** Of the machine's kernel, which the hosts of all labs share. */
const PATH = '/proc/sys/vm/unprivileged_userfaultfd';

/** What post-copy needs (userfaultfd(2)) while QEMU begins it: open to QEMU, or shut, for as long as the work lasts. */
export async function withUserfaultfd<Result>(open: boolean, work: () => Promise<Result>): Promise<Result> {
  // Another lab's story may want the opposite at the same time.
  await using _held = await lock('userfaultfd');
  const before = await readFile(PATH, 'utf8');
  await writeFile(PATH, open ? '1' : '0');
  try {
    return await work();
  } finally {
    await writeFile(PATH, before);
  }
}
