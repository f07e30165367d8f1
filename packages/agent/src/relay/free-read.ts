import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** So much memory may be left to V8 before it is asked to collect it; little enough to stay in a processor's cache. */
const LEFT = 4 << 20;

/** A collection so small is over before another thread of V8's has woken up to help with it. */
const ALONE = ['--no-parallel-scavenge', '--no-concurrent-array-buffer-sweeping'];

type Collect = (options: { readonly type: 'minor' }) => void;

/** Of memory that several reads share, the octets that are done with. */
const done = new WeakMap<ArrayBufferLike, number>();
let left = 0;
let collect: Collect | undefined;

/**
 * Frees the memory of octets that a socket read and that were written elsewhere since; nobody may use them after that. V8
 * itself frees such memory late: what waits while two collections pass it takes for old, and leaves 60 MB of it.
 *
 * Node reads into memory of 64 KiB, of which small reads take their parts one after the other. SECURITY: it is freed once
 * all of its octets were done with, since as long as one is not, it may be anybody's.
 */
export function freeRead({ buffer, byteLength }: Uint8Array): void {
  const before = done.get(buffer);
  const octets = (before ?? 0) + byteLength;
  if (octets === buffer.byteLength && buffer instanceof ArrayBuffer) {
    if (before !== undefined) left = Math.max(0, left - octets);
    buffer.transfer(0);
    return;
  }
  done.set(buffer, octets);
  // Its last octets may be too few for a read, then only V8 can free it.
  if (before === undefined) left += buffer.byteLength;
  if (left < LEFT) return;
  left = 0;
  collect ??= exposedCollector();
  collect({ type: 'minor' });
}

function exposedCollector(): Collect {
  for (const flag of ['--expose-gc', ...ALONE]) setFlagsFromString(flag);
  return runInNewContext('gc') as Collect;
}
