import { createInterface } from 'node:readline/promises';
import { TrustError } from '@virt-trust/base/error.ts';

/** Whether somebody is there to be asked. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/** Asks yes or no on the terminal; anything but yes is no. */
export async function confirm(question: string): Promise<boolean> {
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(?:es)?$/i.test((await reader.question(`${question} [y/N] `)).trim());
  } finally {
    reader.close();
  }
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

/** Reads a secret: from a pipe whole, from a terminal without showing it. */
export async function readSecret(question: string): Promise<string> {
  if (process.stdin.isTTY !== true) {
    const chunks: Buffer[] = [];
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString('utf8').trim();
  }
  const { Writable } = await import('node:stream');
  const hidden = new Writable({ write: (_chunk, _encoding, done) => done() });
  process.stderr.write(question);
  const reader = createInterface({ input: process.stdin, output: hidden, terminal: true });
  try {
    return (await reader.question('')).trim();
  } finally {
    reader.close();
    process.stderr.write('\n');
  }
}
