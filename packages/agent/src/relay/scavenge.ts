import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** After so many bytes their buffers are freed; few enough to stay in a processor's cache. */
const BYTES = 4 << 20;

/** A collection so small is over before another thread of V8's has woken up to help with it. */
const ALONE = ['--no-parallel-scavenge', '--no-concurrent-array-buffer-sweeping'];

type Collect = (options: { readonly type: 'minor' }) => void;

let collect: Collect | undefined;
let since = 0;

/**
 * Counts bytes that were carried, and has V8 free their buffers now and then. Each read of a stream makes a buffer
 * outside of V8's heap; V8 waits until some 60 MB of them are dead, and a processor's cache is gone by then.
 */
export function noteCarried(bytes: number): void {
  since += bytes;
  if (since < BYTES) return;
  since = 0;
  collect ??= exposedCollector();
  collect({ type: 'minor' });
}

function exposedCollector(): Collect {
  for (const flag of ['--expose-gc', ...ALONE]) setFlagsFromString(flag);
  return runInNewContext('gc') as Collect;
}
