import { mkdir, readdir, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { until } from './until.ts';

const PARENT = 'virt-trust-lab';

/** Where the hierarchies that systemd needs are mounted, from the text of /proc/self/mountinfo. */
export function parseHierarchies(mountinfo: string): string[] {
  const found: string[] = [];
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ');
    const mountPoint = left?.split(' ')[4];
    const [type, , superOptions] = right?.split(' ') ?? [];
    const named = type === 'cgroup' && superOptions?.split(',').includes('name=systemd');
    if (mountPoint !== undefined && (type === 'cgroup2' || named)) found.push(mountPoint);
  }
  return found;
}

/** The hierarchies of this machine; empty where there is none. */
export async function hierarchies(): Promise<string[]> {
  return parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8'));
}

/**
 * The control group of one host, in each hierarchy: what a booted host is made of, by which all of it is
 * found and killed, also by a process that did not start it.
 */
export class HostCgroup {
  readonly #name: string;

  constructor(lab: string, host: string) {
    this.#name = join(PARENT, lab, host);
  }

  /** Makes it and returns its directories. */
  async create(): Promise<string[]> {
    const directories = await this.#directories();
    for (const directory of directories) {
      // Another lab that ends just now may take the common parent away in between.
      await mkdir(directory, { recursive: true }).catch(() => mkdir(directory, { recursive: true }));
    }
    return directories;
  }

  /** The processes in it and below it. */
  async processes(): Promise<number[]> {
    const pids = new Set<number>();
    for (const directory of await this.#directories())
      for (const pid of await processesBelow(directory)) pids.add(pid);
    return [...pids];
  }

  /** CPU seconds of everything that ever ran in it; throws `lab.no_cpu_time` where the kernel does not count them. */
  async cpuSeconds(): Promise<number> {
    for (const directory of await this.#directories()) {
      const text = await readFile(join(directory, 'cpu.stat'), 'utf8').catch(() => '');
      const microseconds = /^usage_usec (\d+)$/m.exec(text)?.[1];
      if (microseconds !== undefined) return Number(microseconds) / 1e6;
    }
    throw new TrustError('lab.no_cpu_time', 'unavailable', `cannot count the CPU time of ${this.#name}`, {
      hint: 'it takes a mounted hierarchy of control groups, version 2',
    });
  }

  /** The host's first process, once its systemd runs. */
  async leader(): Promise<number | undefined> {
    for (const pid of await this.processes()) {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      if (/^Name:\tsystemd$/m.test(status) && /^NSpid:\t\d+\t1$/m.test(status)) return pid;
    }
    return undefined;
  }

  /** Ends when no process is left in it. */
  async empty(timeout: number, what: string): Promise<void> {
    await until(what, timeout, async () => ((await this.processes()).length === 0 ? true : undefined));
  }

  /** Kills everything in it and removes it; does nothing where it is not. */
  async destroy(): Promise<void> {
    const leader = await this.leader();
    if (leader !== undefined) {
      // With its first process all of the host dies; what supervised it then puts its own lock files away.
      kill(leader);
      await this.empty(5_000, `end ${this.#name}`).catch(() => {});
    }
    await until(`kill the processes of ${this.#name}`, 180_000, async () => {
      const pids = await this.processes();
      for (const pid of pids) kill(pid);
      if (pids.length > 0) return undefined;
      for (const directory of await this.#directories()) if (!(await removeTree(directory))) return undefined;
      return true;
    });
  }

  /** Removes the groups above it if no other host is in them. */
  async removeParents(): Promise<void> {
    for (const directory of await this.#directories()) {
      await rmdir(join(directory, '..')).catch(() => {});
      await rmdir(join(directory, '..', '..')).catch(() => {});
    }
  }

  async #directories(): Promise<string[]> {
    return (await hierarchies()).map((hierarchy) => join(hierarchy, this.#name));
  }
}

async function processesBelow(directory: string): Promise<number[]> {
  const text = await readFile(join(directory, 'cgroup.procs'), 'utf8').catch(() => '');
  const own = text
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0);
  const deeper = await Promise.all((await subdirectories(directory)).map(processesBelow));
  return [...own, ...deeper.flat()];
}

/** False where somebody is in it yet: who forked while he was killed, or who is not wholly gone. */
async function removeTree(directory: string): Promise<boolean> {
  for (const below of await subdirectories(directory)) if (!(await removeTree(below))) return false;
  return rmdir(directory).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'EBUSY' || error.code === 'ENOTEMPTY') return false;
      if (error.code !== 'ENOENT') throw error;
      return true;
    },
  );
}

async function subdirectories(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name));
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}
