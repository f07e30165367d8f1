import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';

interface HostCommandOptions {
  /** Default 30 s; the program and what it started are killed then. */
  readonly timeoutMs?: number;
  /** Of standard output, default 4 MiB; of standard error only the last 8 KiB are kept. */
  readonly maxOutputBytes?: number;
  readonly stdin?: string | Uint8Array;
  readonly uid?: number;
  readonly gid?: number;
  readonly cwd?: string;
  /** Exit codes besides 0 that are an answer and no failure. */
  readonly acceptedCodes?: readonly number[];
  readonly signal?: AbortSignal;
}

interface HostCommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of the host, or stands in for that in a test. */
export type RunHostCommand = (
  program: string,
  args: readonly string[],
  options?: HostCommandOptions,
) => Promise<HostCommandResult>;

/** Where programs are looked for, whatever the caller's own PATH is. */
const DIRECTORIES = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
  '/usr/libexec',
];
const STDERR_TAIL = 8192;

/**
 * Runs a program without a shell and in the C locale. Throws `command.missing`, `command.timeout`,
 * `command.too_much_output`, `command.failed` (with exit code and the end of standard error), or the signal's reason.
 */
export const runHostCommand: RunHostCommand = (program, args, options = {}) => {
  const { timeoutMs = 30_000, maxOutputBytes = 4 * 1024 * 1024, signal } = options;
  const { promise, resolve, reject } = Promise.withResolvers<HostCommandResult>();
  if (signal?.aborted) return Promise.reject(signal.reason);
  const child = spawn(program, args, {
    // SECURITY: nothing of the caller's environment reaches a program that runs as root.
    env: { PATH: DIRECTORIES.join(':'), LC_ALL: 'C', LANG: 'C', HOME: '/' },
    stdio: ['pipe', 'pipe', 'pipe'],
    // A group of its own, so that a timeout ends the program's children as well.
    detached: true,
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const stdout: Buffer[] = [];
  let length = 0;
  let stderr = Buffer.alloc(0);
  let ended: unknown;
  const end = (error: unknown) => {
    ended ??= error;
    killGroup(child.pid);
  };
  const timer = setTimeout(() => end(timedOut(program, args, timeoutMs)), timeoutMs);
  const onAbort = () => end(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  child.stdout.on('data', (part: Buffer) => {
    length += part.length;
    if (length > maxOutputBytes) end(tooMuchOutput(program, args, maxOutputBytes));
    else stdout.push(part);
  });
  child.stderr.on('data', (part: Buffer) => {
    stderr = Buffer.concat([stderr, part]).subarray(-STDERR_TAIL);
  });
  // A program that does not read its input closes the pipe; its exit code says what that means.
  child.stdin.on('error', () => {});
  child.stdin.end(options.stdin);
  child.once('error', (cause: NodeJS.ErrnoException) => {
    ended ??= cause.code === 'ENOENT' ? missing(program) : cannotRun(program, args, cause);
    if (child.pid === undefined) finish(null, null);
  });
  child.once('close', (code, killedBy) => finish(code, killedBy));

  function finish(code: number | null, killedBy: NodeJS.Signals | null): void {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    const errors = stderr.toString('utf8');
    if (ended !== undefined) reject(ended);
    else if (code === 0 || (code !== null && options.acceptedCodes?.includes(code)))
      resolve({ code: code ?? 0, stdout: Buffer.concat(stdout).toString('utf8'), stderr: errors });
    else reject(failed(program, args, { code, killedBy, stderr: errors }));
  }
  return promise;
};

/** The absolute path of a program of the host, undefined if there is none. */
export async function which(program: string): Promise<string | undefined> {
  for (const directory of DIRECTORIES) {
    const path = join(directory, program);
    try {
      await access(path, constants.X_OK);
      if ((await stat(path)).isFile()) return path;
    } catch {
      // Not in this directory.
    }
  }
  return undefined;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Already gone.
  }
}

function describe(program: string, args: readonly string[]): string {
  return [program, ...args].join(' ').slice(0, 300);
}

function missing(program: string): TrustError {
  return new TrustError('command.missing', 'not-found', `cannot run ${program}: it is not installed`, {
    context: { program },
    hint: `Install the package that holds ${program}.`,
  });
}

function cannotRun(program: string, args: readonly string[], cause: Error): TrustError {
  return new TrustError('command.failed', 'failed', `cannot run ${describe(program, args)}`, {
    context: { program, args, code: null, stderr: '' },
    cause,
  });
}

function timedOut(program: string, args: readonly string[], timeoutMs: number): TrustError {
  return new TrustError(
    'command.timeout',
    'unavailable',
    `cannot finish ${describe(program, args)}: no end within ${timeoutMs / 1000} s`,
    { context: { program, args, timeoutMs } },
  );
}

function tooMuchOutput(program: string, args: readonly string[], bytes: number): TrustError {
  return new TrustError(
    'command.too_much_output',
    'failed',
    `cannot use the output of ${describe(program, args)}: more than ${bytes} bytes`,
    { context: { program, args, bytes } },
  );
}

function failed(
  program: string,
  args: readonly string[],
  outcome: { code: number | null; killedBy: NodeJS.Signals | null; stderr: string },
): TrustError {
  const how = outcome.killedBy === null ? `exit code ${outcome.code}` : `ended by ${outcome.killedBy}`;
  const said = outcome.stderr.trim();
  return new TrustError(
    'command.failed',
    'failed',
    `cannot run ${describe(program, args)}: ${how}${said === '' ? '' : `: ${said.slice(-2000)}`}`,
    { context: { program, args, ...outcome } },
  );
}
