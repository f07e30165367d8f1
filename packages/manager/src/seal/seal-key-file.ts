import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { encodeSealKeys, parseSealKeys, type SealKey } from './seal-key.ts';

/** Where the seal key comes from: a systemd credential (systemd.exec(5), CREDENTIALS) is never written by us. */
export type SealKeyPlace =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'credential'; readonly path: string };

/** The systemd credential where there is one, else the state directory's own file. */
export function sealKeyPlace(stateDirectory: string, credentialsDirectory: string | undefined): SealKeyPlace {
  const credential =
    credentialsDirectory === undefined ? undefined : join(credentialsDirectory, 'virt-trust.seal-key');
  if (credential !== undefined && existsSync(credential)) return { kind: 'credential', path: credential };
  return { kind: 'file', path: join(stateDirectory, 'seal.key') };
}

/** The keys, or undefined where the file is not there; throws `seal.key_open` where others may read it. */
export function readSealKeys(place: SealKeyPlace): SealKey[] | undefined {
  if (!existsSync(place.path)) return undefined;
  const mode = statSync(place.path).mode & 0o777;
  // SECURITY: a credential's mode is systemd's business (0400, or 0440 in a directory of its own).
  if (place.kind === 'file' && (mode & 0o077) !== 0) {
    throw new TrustError(
      'seal.key_open',
      'conflict',
      `cannot use ${place.path}: others may read it (mode ${mode.toString(8)})`,
      { hint: `chmod 600 ${place.path}; if somebody else may have read it, rotate the seal key` },
    );
  }
  return parseSealKeys(readFileSync(place.path, 'utf8'), place.path);
}

/** Replaces the key file whole: written beside it, synced, renamed, and the directory synced. */
export function writeSealKeys(path: string, keys: readonly SealKey[]): void {
  const draft = `${path}.new`;
  const file = openSync(draft, 'w', 0o600);
  try {
    writeSync(file, encodeSealKeys(keys));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** Why a key that systemd brings can not be rotated by us, and how it is done. */
export function credentialNotOurs(place: SealKeyPlace): TrustError {
  return new TrustError(
    'seal.credential',
    'conflict',
    `cannot rotate the seal key: it comes from the credential ${place.path}, which virt-trust can read and not write`,
    {
      hint: 'append a line with a new key to the credential where it is kept (openssl rand 32 | basenc --base64url | tr -d =), encrypt it again if it is (systemd-creds encrypt --name=virt-trust.seal-key), and restart the manager, which seals everything under the last line; then take the older lines out and restart once more. Keep them with the backups that were made before',
    },
  );
}
