import { type ChildProcess, spawn } from 'node:child_process';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { which } from '@virt-trust/check/host/host-command.ts';
import type { Timers } from './timers.ts';

/** Says when links or addresses change. */
export interface NetworkWaker {
  /** Whether it can be relied on now; where not, somebody has to look more often. */
  readonly watching: boolean;
  stop(): Promise<void>;
}

/** netlink(7) through iproute2: a line for each change of a link or an address. */
const MONITOR = ['ip', '-o', 'monitor', 'link', 'address'];
const FIRST_WAIT_MS = SECOND;
const LONGEST_WAIT_MS = MINUTE;
/** It has subscribed by then. */
const YOUNG_MS = 5 * SECOND;

/** Wakes whenever the kernel says that links or addresses changed; its words are not read. Begun anew when it ends. */
export class KernelWatch implements NetworkWaker {
  readonly #wake: () => void;
  readonly #log: Log;
  readonly #timers: Timers;
  readonly #command: readonly string[];
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #startedAt = 0;
  #failures = 0;
  #cancel: () => void = () => {};
  #stopped = false;

  constructor(parts: {
    readonly wake: () => void;
    readonly log: Log;
    readonly timers: Timers;
    readonly command?: readonly string[];
  }) {
    this.#wake = parts.wake;
    this.#log = parts.log;
    this.#timers = parts.timers;
    this.#command = parts.command ?? MONITOR;
    this.#begin();
  }

  get watching(): boolean {
    return this.#child !== undefined && this.#timers.now() - this.#startedAt >= YOUNG_MS;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  #begin(): void {
    this.#ended = this.#run().then((reason) => this.#again(reason));
  }

  /** Resolves with the reason when the program has ended. */
  async #run(): Promise<string> {
    this.#startedAt = this.#timers.now();
    const [program = '', ...args] = this.#command;
    const path = await which(program);
    if (path === undefined) return `${program} is not installed`;
    if (this.#stopped) return 'stopped';
    const { promise, resolve } = Promise.withResolvers<string>();
    // SECURITY: nothing of the agent's environment reaches a program that runs as root.
    const child = spawn(path, args, { env: { LC_ALL: 'C' }, stdio: ['ignore', 'pipe', 'ignore'] });
    this.#child = child;
    child.once('spawn', () => this.#wake());
    // Thrown away as it comes: however much there is, none of it is kept.
    child.stdout.on('data', () => this.#wake());
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    const reason = await promise;
    child.stdout.destroy();
    this.#child = undefined;
    return reason;
  }

  #again(reason: string): void {
    if (this.#stopped) return;
    if (this.#timers.now() - this.#startedAt > LONGEST_WAIT_MS) this.#failures = 0;
    if (this.#failures === 0)
      this.#log.warn({ reason }, 'the watch over interfaces and addresses ended; it is begun anew');
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.#failures, 16));
    this.#failures++;
    this.#cancel = this.#timers.after(wait, () => this.#begin());
  }
}
