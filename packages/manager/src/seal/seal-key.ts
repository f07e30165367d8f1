import { createHash } from 'node:crypto';
import { TrustError } from '@virt-trust/base/error.ts';

/** One key of the keyring; its id is computed from it, so that a key never goes by another's name. */
export interface SealKey {
  /** Eight hexadecimal digits. */
  readonly id: string;
  /** 32 bytes: AES-256. */
  readonly secret: Uint8Array;
}

const HEADER =
  '# Whoever has this and a copy of manager.db has the private keys of the authorities. Oldest key first.';
const MOST_KEYS = 16;

/** A key of 32 random bytes. */
export function sealKeyOf(secret: Uint8Array): SealKey {
  const id = createHash('sha256').update('virt-trust seal key id\n').update(secret).digest('hex').slice(0, 8);
  return { id, secret };
}

/** The text of a key file: one line of base64url for each key, the one in use last. */
export function encodeSealKeys(keys: readonly SealKey[]): string {
  return `${[HEADER, ...keys.map(({ secret }) => Buffer.from(secret).toString('base64url'))].join('\n')}\n`;
}

/** Reads a key file; throws `seal.key_malformed`, and never shows what is in it. */
export function parseSealKeys(content: string, path: string): SealKey[] {
  const lines = content.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const wellFormed = lines.every((line) => /^[A-Za-z0-9_-]{43}$/.test(line));
  if (lines.length === 0 || lines.length > MOST_KEYS || !wellFormed) {
    throw new TrustError(
      'seal.key_malformed',
      'invalid',
      `cannot read the seal key ${path}: not 1 to ${MOST_KEYS} lines of 43 base64url characters`,
      { hint: 'restore the file from the place where it was kept safe' },
    );
  }
  return lines.map((line) => sealKeyOf(Buffer.from(line, 'base64url')));
}
