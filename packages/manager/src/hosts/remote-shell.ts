import { TrustError } from '@virt-trust/base/error.ts';

/** The one executable that is deployed, and where it goes on a host. */
export const PROGRAM_DIRECTORY = '/usr/local/lib/virt-trust';
export const REMOTE_PROGRAM = `${PROGRAM_DIRECTORY}/virt-trust`;

/** The error of an SSH session that ended in the middle. */
export function interrupted(hostName: string, doing: string, stderr: string): TrustError {
  return new TrustError(
    'ssh.interrupted',
    'unavailable',
    `cannot go on with host ${hostName}: the SSH session ended while ${doing}: ${stderr.slice(0, 2000) || 'no word from ssh'}`,
    {
      hint: 'run the same command again; it goes on where it was',
    },
  );
}

/** Quotes words for a POSIX shell. */
export function quoteShell(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
}
