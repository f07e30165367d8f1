import { readFile } from 'node:fs/promises';
import { describeError, TrustError } from '@virt-trust/base/error.ts';

/** Reads a text file that an option named; throws `cli.file_unreadable`. */
export async function readInputFile(file: string, option: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const reason = describeError(cause);
    throw new TrustError('cli.file_unreadable', 'invalid', `cannot read the file of ${option}: ${reason}`, {
      cause,
    });
  }
}
