import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { TrustError } from '@virt-trust/base/error.ts';
import { exec, run } from '@virt-trust/lab/command.ts';
import type { Host } from '@virt-trust/lab/host.ts';
import type { InterfacePlan } from '@virt-trust/lab/network-plan.ts';
import { median } from './figures.ts';

const SCRIPT = fileURLToPath(new URL('./delay-line.pl', import.meta.url));
const CONNECTS = 9;

/**
 * A longer way between a host of the lab and its bridge: every frame arrives later, in each direction, so that TCP,
 * SSH and TLS see the round trip that a distant host has. (netem would do it, but not every kernel has it.)
 */
export class DelayLine implements AsyncDisposable {
  readonly #card: InterfacePlan;
  readonly #bridge: string;
  readonly #child: ChildProcess;

  private constructor(card: InterfacePlan, bridge: string, child: ChildProcess) {
    this.#card = card;
    this.#bridge = bridge;
    this.#child = child;
  }

  /** Puts it in, `milliseconds` each way; throws `bench.no_delay` where the machine has no tap interfaces. */
  static async insert(host: Host, milliseconds: number): Promise<DelayLine> {
    const card = host.plan.interfaces[0];
    if (card === undefined) throw new Error(`host ${host.name} has no interface`);
    const bridge = `${card.peer}d`;
    const [near, far] = [`${card.peer}n`, `${card.peer}f`];
    await exec(['ip', 'link', 'delete', bridge]);
    const child = spawn('perl', [SCRIPT, near, far, String(milliseconds)], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Ctrl-C is for the benchmark, which takes the line out again; the line ends with its standard input.
      detached: true,
    });
    const line = new DelayLine(card, bridge, child);
    try {
      await ready(child);
      await run(['ip', 'link', 'add', bridge, 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0']);
      await run(['ip', 'link', 'set', bridge, 'up']);
      for (const [tap, master] of [
        [near, card.bridge],
        [far, bridge],
      ] as const)
        await run(['ip', 'link', 'set', tap, 'txqueuelen', '20000', 'master', master, 'up']);
      await run(['ip', 'link', 'set', card.peer, 'master', bridge]);
      return line;
    } catch (error) {
      await line[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const over = this.#child.exitCode !== null || this.#child.signalCode !== null;
    const gone = over ? undefined : once(this.#child, 'exit');
    this.#child.stdin?.end();
    await gone;
    await exec(['ip', 'link', 'set', this.#card.peer, 'master', this.#card.bridge]);
    await exec(['ip', 'link', 'delete', this.#bridge]);
  }
}

async function ready(child: ChildProcess): Promise<void> {
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    complaint += chunk.toString();
  });
  const failed = once(child, 'exit').then(() => {
    throw new TrustError('bench.no_delay', 'failed', `cannot delay frames: ${complaint.trim()}`);
  });
  failed.catch(() => {});
  if (child.stdout !== null) await Promise.race([once(child.stdout, 'data'), failed]);
}

/** The round trip to the host in milliseconds, as TCP's handshake sees it. */
export async function roundTrip(host: Host): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < CONNECTS; index++) {
    const began = performance.now();
    const socket = connect(22, host.address);
    await once(socket, 'connect');
    times.push(performance.now() - began);
    socket.destroy();
  }
  return median(times);
}
