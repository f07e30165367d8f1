import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, connect as dial, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Console } from '@virt-trust/contract/model/console.ts';
import type { Host } from '../src/host.ts';
import { TEST_RUN } from '../src/record.ts';
import { until } from '../src/until.ts';

/** The Debian packages of real viewers and of a screen for them. */
export const CLIENT_PACKAGES: readonly string[] = ['tigervnc-viewer', 'virt-viewer', 'xvfb'];

const PATIENCE = 60_000;

/** A program whose words are kept. */
class Program implements AsyncDisposable {
  readonly #child: ChildProcess;
  said = '';

  constructor(argv: readonly string[], env: Readonly<Record<string, string>>) {
    const [command = '', ...args] = argv;
    this.#child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      // With the run's mark, so that it is found where a story was cut off.
      env: { PATH: process.env['PATH'], [TEST_RUN]: process.env[TEST_RUN], LC_ALL: 'C.UTF-8', ...env },
    });
    const listen = (part: Buffer) => {
      this.said += part.toString('utf8');
    };
    this.#child.stdout?.on('data', listen);
    this.#child.stderr?.on('data', listen);
    this.#child.on('error', (error) => {
      this.said += error.message;
    });
  }

  /** Waits until it has said that; throws what it said instead. */
  async says(words: RegExp): Promise<string> {
    try {
      return await until(`hear ${words}`, PATIENCE, () => words.exec(this.said)?.[0]);
    } catch (cause) {
      throw new TrustError('lab.unsaid', 'failed', `cannot hear ${words}: ${this.said.slice(-3000)}`, {
        cause,
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGKILL');
    await closed;
  }
}

/** A screen without a monitor, on which viewers run as on a workstation. */
export class Screen implements AsyncDisposable {
  readonly #server: Program;
  readonly #directory: string;
  readonly #display: string;

  private constructor(server: Program, directory: string, display: string) {
    this.#server = server;
    this.#directory = directory;
    this.#display = display;
  }

  static async up(): Promise<Screen> {
    const argv = ['Xvfb', '-displayfd', '1', '-screen', '0', '1024x768x24', '-nolisten', 'tcp', '-noreset'];
    const server = new Program(argv, {});
    try {
      const display = (await server.says(/^\d+$/m)).trim();
      return new Screen(server, await mkdtemp(join(tmpdir(), 'vt-screen-')), `:${display}`);
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** remote-viewer(1) with the connection file as it was given. */
  async remoteViewer(connectionFile: string): Promise<Program> {
    const path = join(this.#directory, 'console.vv');
    await writeFile(path, connectionFile, { mode: 0o600 });
    return new Program(['remote-viewer', '--debug', path], { DISPLAY: this.#display, HOME: this.#directory });
  }

  /** vncviewer(1) of TigerVNC, which takes nothing but X.509 certificates with a password. */
  async vncViewer(at: { address: string; port: number; ca: string; password: string }): Promise<Program> {
    const path = join(this.#directory, 'ca.pem');
    await writeFile(path, at.ca);
    const argv = ['vncviewer', '-SecurityTypes', 'X509Vnc', '-X509CA', path, '-Log', '*:stderr:100'];
    return new Program([...argv, `${at.address}::${at.port}`], {
      DISPLAY: this.#display,
      HOME: this.#directory,
      VNC_PASSWORD: at.password,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** What an operator's vncviewer is told. */
export function toVnc({ address, tlsPort, ca, password }: Console) {
  return { address, port: tlsPort, ca, password: password?.password ?? '' };
}

/** Carries connections to a display, so that it is reached under an address that its certificate lacks. */
export async function relayTo(address: string, port: number): Promise<{ port: number } & AsyncDisposable> {
  const server: Server = createServer((near) => {
    const far = dial(port, address);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const listening = server.address();
  return {
    port: typeof listening === 'object' && listening !== null ? listening.port : 0,
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

const VIRSH = ['virsh', '-c', 'qemu:///system'];

/** Hears of the clients of a VM's displays from libvirt, from now on. */
export async function watchClients(host: Host, vm: string): Promise<Visitors> {
  const child = await host.start([...VIRSH, 'event', '--domain', vm, '--all', '--loop']);
  const visitors = new Visitors(child);
  // virsh does not say from when on it hears, so it is told something until it says that.
  await until('watch the displays', PATIENCE, async () => {
    await host.run([...VIRSH, 'desc', vm, '--live', '--title', 'watched']);
    return visitors.said.includes("event 'metadata-change'") || undefined;
  });
  return visitors;
}

export class Visitors implements AsyncDisposable {
  readonly #child: ChildProcess;
  said = '';

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.on('data', (part: Buffer) => {
      this.said += part.toString('utf8');
    });
  }

  /** How the clients that came in authenticated themselves, one after the other. */
  get came(): string[] {
    return [...this.said.matchAll(/: initialize .*\] ?(\S*)$/gm)].map((found) => found[1] ?? '');
  }

  async next(after = 0): Promise<string> {
    return await until('see a client come in', PATIENCE, () => this.came[after]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
  }
}
