import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import { which } from '@virt-trust/check/host/host-command.ts';

const STDERR_LIMIT = 8192;
const LISTEN_MS = 20_000;
/** For what a process that ends has said before its end is read. */
const END_MS = 500;

export interface QemuUser {
  readonly uid: number;
  readonly gid: number;
}

/** The name of the host's own QEMU. */
export function qemuSystem(): string {
  return `qemu-system-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}`;
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

  /** Why it did not come to serve what it was started for. */
  notStarted(what: string, directory: string, cause: unknown): TrustError {
    const reason = this.complaint || 'it does not listen';
    return new TrustError(
      'proof.qemu_tls',
      'failed',
      `cannot serve ${what} with the new certificate: QEMU does not start: ${reason}`,
      { hint: `see that the QEMU user may read ${directory} and what it leads to`, cause },
    );
  }

  /** Repeats an attempt while it says that nothing listens yet, as QEMU does not tell when it does. */
  async untilListening<T>(attempt: () => Promise<T>, isEarly: (error: unknown) => boolean): Promise<T> {
    const deadline = performance.now() + LISTEN_MS;
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (!isEarly(error) || this.over || performance.now() > deadline) {
          // Its last words, where it is about to end.
          await Promise.race([this.#ended, new Promise((resolve) => setTimeout(resolve, END_MS))]);
          throw error;
        }
        await Promise.race([this.#ended, new Promise((resolve) => setTimeout(resolve, 50))]);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.over && this.#child.pid !== undefined) this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

/** A port of the loopback that nobody has at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.once('error', reject);
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
  });
  return await promise;
}
