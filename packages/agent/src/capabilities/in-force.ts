import { lstat, readFile, stat } from 'node:fs/promises';

/** A daemon's start: what its PID file says, and when it was written. */
interface Start {
  readonly pid: string;
  readonly at: number;
}

/**
 * What a daemon has of a file that it reads at its start only. A file that was changed since is not in force: then what
 * it said while the same daemon ran counts, where that was seen.
 */
export class InForce<T> {
  #seen: { readonly start: string; readonly value: T } | undefined;

  async of(files: { readonly pid: string; readonly configuration: string }, value: T): Promise<T> {
    const start = await startOf(files.pid);
    // A daemon that does not run reads the file as it is.
    if (start === undefined) return value;
    const which = `${start.pid} ${start.at}`;
    if ((await isNewer(files.configuration, start)) && this.#seen?.start === which) return this.#seen.value;
    this.#seen = { start: which, value };
    return value;
  }
}

/** Undefined where the daemon does not run. */
export async function startOf(pidFile: string): Promise<Start | undefined> {
  try {
    const pid = (await readFile(pidFile, 'utf8')).slice(0, 16).trim();
    if (!/^\d+$/.test(pid)) return undefined;
    await stat(`/proc/${pid}`);
    return { pid, at: (await stat(pidFile)).mtimeMs };
  } catch {
    return undefined;
  }
}

/** Whether a file was changed since a daemon read it. */
export async function isNewer(configuration: string, { at }: Start): Promise<boolean> {
  return (await changedAt(configuration)) > at;
}

/** When the file, or the link to it, was put there or changed last; ctime, since times can be given back. */
async function changedAt(path: string): Promise<number> {
  try {
    const [file, link] = await Promise.all([stat(path), lstat(path)]);
    return Math.max(file.ctimeMs, link.ctimeMs);
  } catch {
    return 0;
  }
}
