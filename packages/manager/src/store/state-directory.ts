import { chmodSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { storeError } from './store-error.ts';

/** A state directory that this process alone has open until `release`. */
export interface StateDirectory {
  readonly path: string;
  release(): void;
}

/** Makes the directory (0700) where it is missing, and takes its lock; throws `store.locked` where another manager has it. */
export function openStateDirectory(path: string): StateDirectory {
  makePrivate(path);
  const lock = takeLock(path);
  held.add(lock);
  return {
    path,
    release: () => {
      held.delete(lock);
      lock.close();
    },
  };
}

/** A connection that is garbage collected lets its lock go; these are held whatever their owners keep. */
const held = new Set<DatabaseSync>();

function makePrivate(path: string): void {
  try {
    makeDirectories(path);
    const mode = statSync(path).mode & 0o777;
    if ((mode & 0o077) === 0) return;
    // An empty directory was just made for us; one with files in it may be somebody's.
    if (readdirSync(path).length === 0) {
      chmodSync(path, 0o700);
      return;
    }
    throw new TrustError(
      'store.directory_open',
      'conflict',
      `cannot use ${path}: others may enter it (mode ${mode.toString(8)})`,
      { hint: `chmod 700 ${path}` },
    );
  } catch (cause) {
    throw storeError(`cannot make the state directory ${path}`, cause);
  }
}

/** Not mkdir's own `recursive`: Node repeats that for ever under /proc, which says ENOENT for whatever is made in it. */
function makeDirectories(path: string): void {
  if (existsSync(path)) return;
  makeDirectories(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}

/** An exclusive transaction on a database of its own: the kernel lets go of it when the process dies, however it dies. */
function takeLock(path: string): DatabaseSync {
  let lock: DatabaseSync | undefined;
  try {
    lock = new DatabaseSync(join(path, 'manager.lock'), { timeout: 0 });
    chmodSync(join(path, 'manager.lock'), 0o600);
    lock.exec('begin exclusive');
    return lock;
  } catch (cause) {
    lock?.close();
    const error = storeError(`cannot lock the state directory ${path}`, cause);
    if (!isTrustError(error, 'store.busy')) throw error;
    throw new TrustError('store.locked', 'conflict', `cannot open ${path}: another manager has it open`, {
      hint: 'stop the other manager, or give this one a state directory of its own',
    });
  }
}
