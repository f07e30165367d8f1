import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** A manager in a process of its own, as `virt-trust serve` runs it, so that it can be killed. */
export class ManagerProcess {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  static async start(program: string, stateDirectory: string): Promise<ManagerProcess> {
    const child = spawn(
      program,
      ['serve', '--state-dir', stateDirectory, '--listen', '127.0.0.1:0', '--program', program],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000);
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const url = /^The manager serves at (\S+)/.exec(line)?.[1];
      if (url !== undefined) return new ManagerProcess(child, url);
    }
    throw new Error(`the manager ended before it served: ${said}`);
  }

  /** Ends it as a power cut does, or in order; does nothing where it has ended. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    await ended;
  }
}
