import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

const MAIN = join(import.meta.dirname, 'main.ts');

/** What a shell command came to; `output` is standard output and standard error as a terminal shows them. */
export interface Ran {
  readonly code: number;
  readonly output: string;
}

/** For tests: a person's shell with `virt-trust` in its PATH, and a home directory of its own. */
export class Shell {
  readonly home = mkdtempSync(join(tmpdir(), 'virt-trust-cli-'));
  readonly env: Record<string, string>;

  constructor(env: Readonly<Record<string, string>> = {}) {
    const bin = join(this.home, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'virt-trust'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
    chmodSync(join(bin, 'virt-trust'), 0o755);
    this.env = { PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin`, HOME: this.home, LC_ALL: 'C.UTF-8', ...env };
  }

  /** Runs a line of bash with nothing on standard input. */
  run(line: string): Promise<Ran> {
    return new Promise((resolve) => {
      const script = `exec 2>&1 </dev/null; ${line}`;
      const child = execFile('bash', ['-c', script], { env: this.env, cwd: this.home }, (_, output) =>
        resolve({ code: child.exitCode ?? 1, output }),
      );
    });
  }

  /**
   * Runs the lines of a transcript that begin with `$ ` and returns the transcript as it really goes. What differs
   * from run to run is put in words: URL, TOKEN, ID, TIME, PIN, HASH, NN; columns are two spaces apart.
   */
  async replay(transcript: string): Promise<string> {
    const lines: string[] = [];
    for (const line of transcript.split('\n').filter((one) => one.startsWith('$ '))) {
      const { code, output } = await this.run(line.slice(2));
      lines.push(line, ...this.#settled(output), ...(code === 0 ? [] : [`[exit ${code}]`]));
    }
    return `\n${lines.join('\n')}\n`;
  }

  #settled(output: string): string[] {
    const text = output
      .replaceAll(this.home, 'HOME')
      .replaceAll(this.env['VIRT_TRUST_URL'] ?? 'URL', 'URL')
      .replace(/\bvt_[\w-]{20,}/g, 'TOKEN')
      .replace(/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, 'ID')
      .replace(/\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d\.\d+)?Z/g, 'TIME')
      .replace(/sha256:[\w-]{43}/g, 'PIN')
      .replace(/\b[0-9a-f]{64}\b/g, 'HASH')
      .replace(/(?<=issuing |root )[0-9a-f]{8}\b/g, 'NN')
      .replace(/(?<=\S) {2,}/g, '  ')
      .trimEnd();
    return text === '' ? [] : text.split('\n');
  }

  /** Takes the home directory away. */
  remove(): void {
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** For tests: a manager that `virt-trust serve` runs, and a shell that knows it and its first administrator's token. */
export class ServedManager {
  readonly shell = new Shell();
  readonly stateDirectory = join(this.shell.home, 'state');
  #process: ServeProcess | null = null;

  static async start(): Promise<ServedManager> {
    const manager = new ServedManager();
    manager.shell.env['VIRT_TRUST_TOKEN'] = await manager.#serve(true);
    return manager;
  }

  /** Ends what runs and starts it anew on the same state. */
  async restart(...options: readonly string[]): Promise<void> {
    await this.#end();
    await this.#serve(false, options);
  }

  /** Ends what runs, has its state changed, and starts it anew. */
  async between(change: (stateDirectory: string) => Promise<void>): Promise<void> {
    await this.#end();
    await change(this.stateDirectory);
    await this.#serve(false);
  }

  /** Ends the manager and takes everything away. */
  async stop(): Promise<void> {
    await this.#end();
    this.shell.remove();
  }

  async #serve(first: boolean, options: readonly string[] = []): Promise<string> {
    const words = [
      '--state-dir',
      this.stateDirectory,
      '--listen',
      '127.0.0.1:0',
      '--program',
      MAIN,
      ...options,
    ];
    this.#process = spawn(process.execPath, [MAIN, 'serve', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    const { url, token } = await announcementOf(this.#process, first);
    this.shell.env['VIRT_TRUST_URL'] = url;
    return token;
  }

  async #end(): Promise<void> {
    if (this.#process === null) return;
    const ended = once(this.#process, 'exit');
    if (this.#process.exitCode === null && this.#process.kill('SIGTERM')) await ended;
    this.#process = null;
  }
}

type ServeProcess = ChildProcessByStdio<null, Readable, Readable>;

/** What a manager that starts says of itself; with `first` the token of the first administrator too. */
async function announcementOf(serve: ServeProcess, first: boolean): Promise<{ url: string; token: string }> {
  let logged = '';
  serve.stderr.on('data', (chunk: Buffer) => {
    logged += chunk;
  });
  let [url, token] = ['', ''];
  for await (const line of createInterface({ input: serve.stdout })) {
    url = /^The manager serves at (\S+)$/.exec(line)?.[1] ?? url;
    token = /^ {2}(vt_\S+)$/.exec(line)?.[1] ?? token;
    if (url !== '' && (token !== '' || !first)) return { url, token };
  }
  throw new Error(`the manager did not start: ${logged}`);
}
