import { type ChildProcess, spawn } from 'node:child_process';
import { TrustError } from '@virt-trust/base/error.ts';
import { which } from '../../host-command.ts';

const STDERR_LIMIT = 8192;

export interface QemuUser {
  readonly uid: number;
  readonly gid: number;
}

/** A program of QEMU's that runs as the QEMU user until it is ended; its disposal ends it. */
export class QemuProgram implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #stderr = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    child.once('close', () => resolve());
    child.once('error', () => resolve());
    child.stderr?.on('data', (part: Buffer) => {
      this.#stderr = (this.#stderr + part.toString('utf8')).slice(-STDERR_LIMIT);
    });
  }

  /** Starts a program; throws `command.missing`. */
  static async start(name: string, args: readonly string[], user: QemuUser): Promise<QemuProgram> {
    const program = await which(name);
    if (program === undefined) {
      throw new TrustError('command.missing', 'not-found', `cannot run ${name}: it is not installed`, {
        hint: `install the package that holds ${name} (Debian: qemu-utils, qemu-system-x86)`,
      });
    }
    const child = spawn(program, args, {
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
      uid: user.uid,
      gid: user.gid,
      cwd: '/',
    });
    child.stdout?.resume();
    return new QemuProgram(child);
  }

  /** Whether it has ended by itself. */
  get over(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Resolves when it has ended. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** What it complained of last. */
  get complaint(): string {
    return this.#stderr.trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.over && this.#child.pid !== undefined) this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
