import { readFile } from 'node:fs/promises';
import type { Host } from '@virt-trust/lab/host.ts';
import { memoryOf } from './memory.ts';

const INTERVAL_MS = 150;
const PROGRAM = /\/virt-trust\0agent\0(run|conduct|relay)\0/;

/** A process of ours on a host: RssAnon in MB when it was first seen, and at most. */
interface Seen {
  readonly what: string;
  readonly first: number;
  most: number;
}

/** What processes held when they were first seen, by what they are and their id. */
export type IdleMemory = Map<string, number>;

/** Looks at the memory of all our processes on some hosts, from the machine, so that the hosts take no part in it. */
export class MemoryWatch {
  readonly #hosts: readonly Host[];
  readonly #seen = new Map<number, Seen>();
  readonly #idle: IdleMemory;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  private constructor(hosts: readonly Host[], idle: IdleMemory) {
    this.#hosts = hosts;
    this.#idle = idle;
  }

  static async start(hosts: readonly Host[], idle: IdleMemory): Promise<MemoryWatch> {
    const watch = new MemoryWatch([...hosts], idle);
    await watch.#look();
    watch.#timer = setInterval(() => {
      watch.#looking = watch.#looking.then(() => watch.#look());
    }, INTERVAL_MS);
    return watch;
  }

  /** By `run` (the agent), `conduct` and `relay`: the most that one of them grew by since it was first seen, and held. */
  async stop(): Promise<ReadonlyMap<string, { readonly grown: number; readonly most: number }>> {
    clearInterval(this.#timer);
    await this.#looking;
    const result = new Map<string, { grown: number; most: number }>();
    for (const { what, first, most } of this.#seen.values()) {
      const before = result.get(what);
      result.set(what, {
        grown: Math.max(before?.grown ?? 0, most - first),
        most: Math.max(before?.most ?? 0, most),
      });
    }
    return result;
  }

  async #look(): Promise<void> {
    for (const host of this.#hosts) {
      for (const pid of await host.processes()) {
        const what = PROGRAM.exec(await text(`/proc/${pid}/cmdline`))?.[1];
        if (what === undefined) continue;
        const { anonymous } = memoryOf(await text(`/proc/${pid}/status`));
        // It ended between the two.
        if (Number.isNaN(anonymous)) continue;
        const seen = this.#seen.get(pid);
        if (seen === undefined) {
          const key = `${what} ${pid}`;
          const first = this.#idle.get(key) ?? anonymous;
          this.#idle.set(key, first);
          this.#seen.set(pid, { what, first, most: anonymous });
        } else seen.most = Math.max(seen.most, anonymous);
      }
    }
  }
}

const text = (path: string) => readFile(path, 'utf8').catch(() => '');
