import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { LAB_OWNER } from './orphans.ts';

/** What a finished command said; `code` is 128 + the signal's number if a signal ended it, as in a shell. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Given to standard input, which is otherwise empty. */
  readonly input?: string | Uint8Array;
  /** Milliseconds after which the command and its children are killed and `lab.command_timeout` is thrown. */
  readonly timeout?: number;
  /** The whole environment; the caller's own if absent. */
  readonly env?: Readonly<Record<string, string>>;
  /** Kills the command and its children when it is aborted, and then throws its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Called with each line of standard output and standard error as it comes. */
  readonly onLine?: (line: string) => void;
}

/** Runs a command to its end, whatever its exit code; throws `lab.command_missing` if it cannot start. */
export async function exec(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  options.signal?.throwIfAborted();
  const env = { ...(options.env ?? process.env), [LAB_OWNER]: String(process.pid) };
  const spawned: SpawnOptions = { stdio: ['pipe', 'pipe', 'pipe'], detached: true, env };
  const child = spawn(argv[0] ?? '', argv.slice(1), spawned);
  const out = collect(child.stdout, options.onLine);
  const err = collect(child.stderr, options.onLine);
  // A command that does not read its input closes the pipe: its exit code tells the story, not our EPIPE.
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input ?? '');
  let timedOut = false;
  const timer =
    options.timeout === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          killGroup(child);
        }, options.timeout);
  const abort = () => killGroup(child);
  options.signal?.addEventListener('abort', abort);
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status, signal) =>
        resolve(status ?? 128 + (signal === null ? 0 : constants.signals[signal])),
      );
    });
    options.signal?.throwIfAborted();
    if (timedOut) {
      throw new TrustError(
        'lab.command_timeout',
        'unavailable',
        `cannot finish ${argv.join(' ')}: no end after ${(options.timeout ?? 0) / 1000} s`,
        { context: { argv, stdout: out(), stderr: err() } },
      );
    }
    return { code, stdout: out(), stderr: err() };
  } catch (error) {
    if (error instanceof TrustError || options.signal?.aborted === true) throw error;
    throw new TrustError('lab.command_missing', 'failed', `cannot run ${argv[0]}: ${describeError(error)}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', abort);
  }
}

/** Runs a command that must succeed and returns its standard output; throws `lab.command_failed`. */
export async function run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  return succeed(argv, await exec(argv, options));
}

/** The standard output of a command that ended well; throws `lab.command_failed` with what it said. */
export function succeed(argv: readonly string[], result: CommandResult, where = ''): string {
  if (result.code === 0) return result.stdout;
  const said = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-12).join('\n');
  throw new TrustError(
    'lab.command_failed',
    'failed',
    `cannot run ${argv.join(' ')}${where}: exit code ${result.code}${said === '' ? '' : `: ${said}`}`,
    { context: { argv, ...result } },
  );
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It ended between the timeout and the signal.
  }
}

function collect(stream: ChildProcess['stdout'], onLine: CommandOptions['onLine']): () => string {
  const chunks: Buffer[] = [];
  let rest = '';
  stream?.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    if (onLine === undefined) return;
    const lines = (rest + chunk.toString('utf8')).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  return () => Buffer.concat(chunks).toString('utf8');
}
