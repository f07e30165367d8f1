import { createInterface, type Interface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { TrustError } from '@virt-trust/base/error.ts';

const MAX_SECRET = 64 * 1024;

/** Whether somebody is there to be asked. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/** Asks yes or no on the terminal; anything but yes is no. */
export async function confirm(question: string): Promise<boolean> {
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  return /^y(?:es)?$/i.test(await lineOf(reader, `${question} [y/N] `));
}

/** Asks before something is taken away; without a terminal the flag must have been given. Throws `cli.not_confirmed`. */
export async function requireConfirmation(question: string, yes: boolean | undefined): Promise<void> {
  if (yes === true) return;
  if (canAsk() && (await confirm(question))) return;
  throw new TrustError(
    'cli.not_confirmed',
    'invalid',
    'nothing was done: this was not confirmed',
    canAsk() ? {} : { hint: 'in a script, say --yes' },
  );
}

/** Reads a secret: from a pipe whole, from a terminal without showing it. Throws `cli.secret_too_long`. */
export async function readSecret(question: string): Promise<string> {
  if (process.stdin.isTTY !== true) return readPipe();
  const hidden = new Writable({ write: (_chunk, _encoding, done) => done() });
  process.stderr.write(question);
  const line = await lineOf(createInterface({ input: process.stdin, output: hidden, terminal: true }), '');
  process.stderr.write('\n');
  return line;
}

async function readPipe(): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    size += chunk.length;
    if (size > MAX_SECRET)
      throw new TrustError(
        'cli.secret_too_long',
        'invalid',
        `cannot use standard input: over ${MAX_SECRET} bytes`,
      );
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8').trim();
}

/** One line; empty where the person ended the input (Ctrl-D, Ctrl-C) instead. */
async function lineOf(reader: Interface, question: string): Promise<string> {
  const ended = Promise.withResolvers<string>();
  reader.once('close', () => ended.resolve(''));
  try {
    return (await Promise.race([reader.question(question).catch(() => ''), ended.promise])).trim();
  } finally {
    reader.close();
  }
}
