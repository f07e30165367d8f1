import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SshTarget } from '@virt-trust/contract/model/manager.ts';
import { type KnownHostKey, parseKnownHosts } from './ssh-host-key.ts';

/** Under this name the pinned key stands in our known_hosts, whatever address or port ssh's configuration leads to. */
const HOST_KEY_ALIAS = 'virt-trust-host';
const MAX_OUTPUT = 32 * 1024 * 1024;
const KEY_TYPES = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'rsa-sha2-512,rsa-sha2-256'];

export interface SshResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SshRunOptions {
  /** Standard input: text, or a file that is streamed. */
  readonly input?: string | { readonly file: string };
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

function targetArguments(target: SshTarget): string[] {
  return [
    ...(target.port === undefined ? [] : ['-p', String(target.port)]),
    ...(target.identityFile === undefined ? [] : ['-i', target.identityFile, '-o', 'IdentitiesOnly=yes']),
    ...(target.options ?? []).flatMap((option) => ['-o', option]),
  ];
}

const COMMON = [
  '-T',
  '-o',
  'BatchMode=yes',
  '-o',
  'ConnectTimeout=15',
  '-o',
  'ServerAliveInterval=5',
  '-o',
  'ServerAliveCountMax=3',
  '-o',
  'UpdateHostKeys=no',
  '-o',
  'CheckHostIP=no',
  '-o',
  'HashKnownHosts=no',
  '-o',
  `HostKeyAlias=${HOST_KEY_ALIAS}`,
  '-o',
  'GlobalKnownHostsFile=/dev/null',
  '-o',
  'ForwardAgent=no',
  '-o',
  'ForwardX11=no',
  '-o',
  'LogLevel=ERROR',
  '-o',
  'VerifyHostKeyDNS=no',
];

/** One OpenSSH process, its output bounded. */
async function runSsh(args: readonly string[], options: SshRunOptions): Promise<SshResult> {
  const child = spawn('ssh', args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs);
  const onAbort = () => child.kill('SIGTERM');
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const [code, stdout, stderr] = await Promise.all([
      exitOf(child),
      collect(child.stdout),
      collect(child.stderr),
      feed(child, options.input),
    ]);
    options.signal?.throwIfAborted();
    return { code, stdout, stderr: stderr.trim() };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', onAbort);
  }
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (cause) =>
      reject(
        new TrustError('ssh.not_installed', 'failed', 'cannot run ssh: the OpenSSH client is not there', {
          cause,
          hint: 'install the package openssh-client',
        }),
      ),
    );
    child.once('close', (code) => resolve(code ?? 255));
  });
}

async function collect(stream: NodeJS.ReadableStream | null): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream ?? []) {
    size += chunk.length;
    // What is over the bound is read and dropped, so that the other side does not block.
    if (size <= MAX_OUTPUT) chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function feed(child: ChildProcess, input: SshRunOptions['input']): Promise<void> {
  const stdin = child.stdin;
  if (stdin === null) return;
  // A host that hangs up early closes the pipe; its exit code and stderr tell why.
  stdin.on('error', () => {});
  if (typeof input === 'object')
    await pipeline(createReadStream(input.file, { highWaterMark: 1 << 20 }), stdin).catch(() => {});
  else stdin.end(input ?? '');
}

/** Shows a machine's SSH host keys without logging in: nothing is run on it. Throws `ssh.unreachable`. */
export async function scanHostKeys(target: SshTarget, signal?: AbortSignal): Promise<KnownHostKey[]> {
  const directory = await mkdtemp(join(tmpdir(), 'vt-scan-'));
  try {
    const answers = await Promise.all(
      KEY_TYPES.map((types, index) => scanOne(target, types, join(directory, String(index)), signal)),
    );
    const keys = answers.flatMap((answer) => answer.keys);
    if (keys.length === 0) throw unreachable(target, answers[0]?.stderr ?? '');
    return keys;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function scanOne(target: SshTarget, types: string, file: string, signal: AbortSignal | undefined) {
  await writeFile(file, '', { mode: 0o600 });
  const result = await runSsh(
    // SECURITY: authentication `none` only, so that nothing is sent or run before the key was accepted.
    [
      ...COMMON,
      ...targetArguments(target),
      '-o',
      'PreferredAuthentications=none',
      '-o',
      'ControlPath=none',
      '-o',
      `HostKeyAlgorithms=${types}`,
      '-o',
      'StrictHostKeyChecking=accept-new',
      '-o',
      `UserKnownHostsFile=${file}`,
      '--',
      target.destination,
      'true',
    ],
    { timeoutMs: 30_000, ...(signal === undefined ? {} : { signal }) },
  );
  return { keys: parseKnownHosts(await readFile(file, 'utf8')), stderr: result.stderr };
}

function unreachable(target: SshTarget, stderr: string): TrustError {
  return new TrustError(
    'ssh.unreachable',
    'unavailable',
    `cannot reach ${target.destination} over SSH: ${stderr.slice(0, 2000) || 'no answer'}`,
    {
      hint: `check address, port and sshd, or try it by hand: ssh ${target.destination}`,
      context: { destination: target.destination },
    },
  );
}

/** The host name that ssh's own configuration leads to (`ssh -G`). */
export async function resolveSshHost(target: SshTarget): Promise<string> {
  const result = await runSsh(['-G', ...targetArguments(target), '--', target.destination], {
    timeoutMs: 10_000,
  });
  const line = result.stdout.split('\n').find((text) => text.startsWith('hostname '));
  if (result.code !== 0 || line === undefined) throw unreachable(target, result.stderr);
  return line.slice('hostname '.length).trim();
}

/** A multiplexed SSH session to a host whose key is pinned. */
export class SshSession {
  readonly target: SshTarget;
  readonly #directory: string;

  private constructor(target: SshTarget, directory: string) {
    this.target = target;
    this.#directory = directory;
  }

  /** Logs in; throws `ssh.host_key_changed`, `ssh.login_refused` or `ssh.unreachable`. */
  static async open(target: SshTarget, hostKey: string, signal?: AbortSignal): Promise<SshSession> {
    const directory = await mkdtemp(join(tmpdir(), 'vt-ssh-'));
    const session = new SshSession(target, directory);
    try {
      await writeFile(join(directory, 'known_hosts'), `${HOST_KEY_ALIAS} ${hostKey}\n`, { mode: 0o600 });
      const result = await session.run('true', {
        timeoutMs: 60_000,
        ...(signal === undefined ? {} : { signal }),
      });
      if (result.code !== 0) throw loginError(target, result);
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  /** Runs a command line of the remote shell; the caller quotes. */
  async run(command: string, options: SshRunOptions): Promise<SshResult> {
    return runSsh([...this.#arguments(), '--', this.target.destination, command], options);
  }

  #arguments(): string[] {
    const algorithm = (file: string) => join(this.#directory, file);
    return [
      ...COMMON,
      ...targetArguments(this.target),
      '-o',
      'StrictHostKeyChecking=yes',
      '-o',
      `UserKnownHostsFile=${algorithm('known_hosts')}`,
      '-o',
      'ControlMaster=auto',
      '-o',
      `ControlPath=${algorithm('c')}`,
      '-o',
      'ControlPersist=60',
    ];
  }

  async close(): Promise<void> {
    await runSsh([...this.#arguments(), '-O', 'exit', '--', this.target.destination], {
      timeoutMs: 10_000,
    }).catch(() => {});
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function loginError(target: SshTarget, result: SshResult): TrustError {
  if (
    /host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|no matching host key type/i.test(
      result.stderr,
    )
  ) {
    return new TrustError(
      'ssh.host_key_changed',
      'denied',
      `cannot log in to ${target.destination}: its SSH host key is not the one that was accepted`,
      {
        hint: 'find out why it changed; then remove the host with --force and add it anew with --ssh-fingerprint',
      },
    );
  }
  if (/permission denied|too many authentication failures/i.test(result.stderr)) {
    return new TrustError(
      'ssh.login_refused',
      'denied',
      `cannot log in to ${target.destination}: ${result.stderr.slice(0, 500)}`,
      {
        hint: "give the manager's user a key that this host accepts (ssh-copy-id), or name one with --ssh-identity",
      },
    );
  }
  return unreachable(target, result.stderr);
}
