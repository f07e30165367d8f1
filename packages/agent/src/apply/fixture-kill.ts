import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Reached {
  readonly index: number;
  readonly step: string;
}

/**
 * For tests: lets a child process go up to the first step from an index on and kills it there; undefined where it ended
 * before. `start` begins it with the directory of its barrier.
 */
export async function killAt(
  start: (barrier: string) => ChildProcess,
  index: number,
): Promise<Reached | undefined> {
  const barrier = await mkdtemp(join(tmpdir(), 'virt-trust-barrier-'));
  for (let before = 0; before < index; before++) await writeFile(join(barrier, `go-${before}`), '');
  const child = start(barrier);
  const exited = once(child, 'exit');
  const step = await reachedFrom(barrier, index, child);
  child.kill('SIGKILL');
  await exited;
  await rm(barrier, { recursive: true });
  return step;
}

/** The step that the child has reached, of those from an index on; undefined where it ended first. */
async function reachedFrom(
  directory: string,
  index: number,
  child: ChildProcess,
): Promise<Reached | undefined> {
  for (;;) {
    const over = child.exitCode !== null;
    for (const name of await readdir(directory)) {
      const parts = /^reached-(\d+)-(.+)$/.exec(name);
      if (parts !== null && Number(parts[1]) >= index)
        return { index: Number(parts[1]), step: parts[2] ?? '' };
    }
    if (over) {
      assert.equal(child.exitCode, 0);
      return undefined;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
