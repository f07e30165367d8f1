import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';

/** Where the manager is and the token for it. */
export interface Credentials {
  readonly url: string;
  readonly token: string;
  /** Which program saved it, where that was not `virt-trust login`: it may replace its own. */
  readonly savedBy?: string;
}

export const DEFAULT_URL = 'http://127.0.0.1:16516';

/** Where the token is saved, below the directory of a user's configuration (XDG Base Directory Specification). */
export function credentialsFile(
  configHome = process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config'),
): string {
  return join(configHome, 'virt-trust', 'credentials.json');
}

/** From VIRT_TRUST_URL and VIRT_TRUST_TOKEN, else from the file that `virt-trust login` wrote. Throws `cli.no_token`. */
export function readCredentials(): Credentials {
  const saved = savedCredentials();
  const url = process.env['VIRT_TRUST_URL'] ?? saved?.url ?? DEFAULT_URL;
  const token = process.env['VIRT_TRUST_TOKEN'] ?? saved?.token;
  if (token === undefined || token === '') {
    throw new TrustError('cli.no_token', 'unauthenticated', 'cannot ask the manager: there is no token', {
      hint: 'give the one that the manager showed at its first start to: virt-trust login (or set VIRT_TRUST_TOKEN)',
    });
  }
  return { url, token };
}

/** What `virt-trust login` saved, if anything. Throws `cli.credentials_malformed`. */
export function savedCredentials(file = credentialsFile()): Credentials | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  try {
    const { url, token, savedBy } = JSON.parse(text) as Record<string, unknown>;
    if (typeof url === 'string' && typeof token === 'string')
      return { url, token, ...(typeof savedBy === 'string' ? { savedBy } : {}) };
  } catch {
    // Falls through to the one message for whatever is wrong with it.
  }
  throw new TrustError(
    'cli.credentials_malformed',
    'invalid',
    `cannot read ${file}: not what virt-trust login writes`,
    { hint: 'write it anew with: virt-trust login' },
  );
}

/** Saves the token where only this user reads it. Returns the file's name. */
export function saveCredentials(credentials: Credentials, file = credentialsFile()): string {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}`;
  writeFileSync(fresh, `${JSON.stringify(credentials)}\n`, { mode: 0o600 });
  chmodSync(fresh, 0o600);
  renameSync(fresh, file);
  return file;
}
