import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SshTarget } from '@virt-trust/contract/model/ssh.ts';

/** Under this name the pinned key stands in our known_hosts, whatever address or port ssh's configuration leads to. */
export const HOST_KEY_ALIAS = 'virt-trust-host';
const MAX_OUTPUT = 32 * 1024 * 1024;

export interface SshResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SshRunOptions {
  /** Standard input: text, or a file that is streamed, compressed if `packed`. */
  readonly input?: string | { readonly file: string; readonly packed: 'zstd' | null };
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** The options of ssh that lead to a target. */
export function targetArguments(target: SshTarget): string[] {
  return [
    ...(target.port === undefined ? [] : ['-p', String(target.port)]),
    ...(target.identityFile === undefined ? [] : ['-i', target.identityFile, '-o', 'IdentitiesOnly=yes']),
    ...(target.options ?? []).flatMap((option) => ['-o', option]),
  ];
}

/** Never asks, never forwards, never changes what is known of hosts. */
export const COMMON_OPTIONS = [
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
export async function runSsh(args: readonly string[], options: SshRunOptions): Promise<SshResult> {
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
  if (typeof input === 'object') {
    const file = createReadStream(input.file, { highWaterMark: 1 << 20 });
    const fed = input.packed === 'zstd' ? pipeline(file, zstd(), stdin) : pipeline(file, stdin);
    await fed.catch(() => {});
  } else stdin.end(input ?? '');
}

/** At its lowest level it is as fast as a LAN's line; a slow one has little more than a third of the bytes to carry. */
function zstd() {
  return createZstdCompress({ chunkSize: 1 << 18, params: { [constants.ZSTD_c_compressionLevel]: 1 } });
}

/** Why a machine is not reached, in ssh's words. */
export function unreachable(target: SshTarget, stderr: string): TrustError {
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
