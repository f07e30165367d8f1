import { watch } from 'node:fs';
import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Where an application may be held before a step, so that a test can kill it exactly there. */
export type Barrier = (index: number, name: string) => Promise<void>;

/** A barrier that holds nothing. */
const open: Barrier = async () => {};

/**
 * The barrier of a directory: before each step `reached-INDEX-NAME` is made in it, and the step begins once
 * `go-INDEX` exists there. Without a directory nothing is held.
 */
export function barrierOf(directory: string | undefined): Barrier {
  if (directory === undefined || directory === '') return open;
  return async (index, name) => {
    const go = join(directory, `go-${index}`);
    await writeFile(join(directory, `reached-${index}-${name}`), '');
    await appears(directory, go);
  };
}

/** Waits for a file by watching its directory; looked for after the watch began, so that nothing is missed. */
export async function appears(directory: string, path: string, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const look = () => access(path).then(resolve, () => {});
  const watcher = watch(directory, () => void look());
  watcher.once('error', reject);
  const onAbort = () => reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await look();
    await promise;
  } finally {
    watcher.close();
    signal?.removeEventListener('abort', onAbort);
  }
}
