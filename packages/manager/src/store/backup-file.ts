import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { TrustError } from '@virt-trust/base/error.ts';
import { BackupHeader } from '@virt-trust/contract/model/backup.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { SealKey } from '../seal/seal-key.ts';

const MAGIC = 'virt-trust backup 1\n';
const TAG = /^hmac-sha256 ([A-Za-z0-9_-]{43})$/;
/** Far above what a header needs. */
export const MAX_PREFIX = 16_384;

/** What comes before the database in a backup: three lines of text, the last a code over the others. */
export function encodePrefix(header: BackupHeader, key: SealKey): Buffer {
  const text = `${MAGIC}${JSON.stringify(header)}\n`;
  return Buffer.from(`${text}hmac-sha256 ${codeOf(text, key).toString('base64url')}\n`);
}

/** The header and its code of the first bytes of a backup; throws `backup.malformed`. Verify it before it is believed. */
export function readPrefix(
  bytes: Uint8Array,
  path: string,
): { header: BackupHeader; length: number; verify(key: SealKey): void } {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, MAX_PREFIX)).toString(
    'latin1',
  );
  if (!text.startsWith(MAGIC)) throw malformed(path, 'it is not a backup of virt-trust');
  const second = text.indexOf('\n', MAGIC.length);
  const third = second < 0 ? -1 : text.indexOf('\n', second + 1);
  const code = third < 0 ? undefined : TAG.exec(text.slice(second + 1, third))?.[1];
  if (code === undefined) throw malformed(path, 'its head is cut off');
  const signed = text.slice(0, second + 1);
  return {
    header: parseHeader(signed.slice(MAGIC.length), path),
    length: third + 1,
    verify(key) {
      // SECURITY: who has the backup and no seal key could put a token of his own into it.
      if (timingSafeEqual(codeOf(signed, key), Buffer.from(code, 'base64url'))) return;
      throw new TrustError(
        'backup.altered',
        'denied',
        `cannot restore ${path}: it was altered after it was made`,
        {
          hint: 'take another backup',
        },
      );
    },
  };
}

function parseHeader(text: string, path: string): BackupHeader {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw malformed(path, 'its head is not JSON');
  }
  try {
    return validatorOf(BackupHeader)(value, 'the head');
  } catch (cause) {
    throw malformed(path, 'its head is not of a known form', cause);
  }
}

/** HMAC-SHA256 (RFC 2104) under a key derived from the seal key (HKDF, RFC 5869), which itself seals and nothing else. */
function codeOf(text: string, { secret }: SealKey): Buffer {
  const key = Buffer.from(hkdfSync('sha256', secret, '', 'virt-trust backup 1', 32));
  return createHmac('sha256', key).update(text, 'latin1').digest();
}

function malformed(path: string, reason: string, cause?: unknown): TrustError {
  return new TrustError('backup.malformed', 'invalid', `cannot restore ${path}: ${reason}`, {
    ...(cause === undefined ? {} : { cause }),
    hint: 'give a file that virt-trust backup made, whole',
  });
}
