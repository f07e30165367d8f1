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
    await appears(go);
  };
}

/**
 * Waits for a file. Looked for again and again: watching takes an inotify instance, of which a user has few and the
 * hosts of a lab share them all.
 */
export async function appears(path: string, signal?: AbortSignal): Promise<void> {
  for (;;) {
    signal?.throwIfAborted();
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

const LOOK_MS = 10;
