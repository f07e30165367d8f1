import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { TrustError } from '@virt-trust/base/error.ts';

/** A server in a process of its own, ready to be asked. */
export interface RunningChild {
  stop(): Promise<void>;
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

/** Starts one of our own files on the same Node; resolves with the first line that it prints. */
export async function startOwn(
  file: string,
  args: readonly string[],
): Promise<RunningChild & { readonly line: string }> {
  const child = spawn(process.execPath, [new URL(file, import.meta.url).pathname, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    child.stdout.resume();
    return { line, stop: () => stopChild(child) };
  }
  throw new TrustError('bench.child_ended', 'failed', `cannot measure: ${file} ended before it was ready`);
}

/** Starts a server program; resolves once its port takes connections, which `ready` asks. */
export async function startServer(
  program: string,
  args: readonly string[],
  ready: () => Promise<boolean>,
): Promise<RunningChild> {
  const child = spawn(program, args, { stdio: 'ignore' });
  const failed = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`${program} ended`)));
  });
  failed.catch(() => {});
  const deadline = Date.now() + 10_000;
  while (!(await Promise.race([ready(), failed]))) {
    if (Date.now() > deadline) {
      await stopChild(child);
      throw new TrustError('bench.not_ready', 'failed', `cannot measure: ${program} does not listen`);
    }
  }
  return { stop: () => stopChild(child) };
}

/** Runs one of our own files with a document on its standard input; resolves with what it printed. */
export async function askOwn(file: string, input: string): Promise<string> {
  const child = spawn(process.execPath, [new URL(file, import.meta.url).pathname], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  child.stdin.end(input);
  let output = '';
  for await (const chunk of child.stdout) output += String(chunk);
  const [code] = (await exited) as [number | null];
  if (code !== 0) throw new TrustError('bench.child_failed', 'failed', `cannot measure: ${file} failed`);
  return output;
}
