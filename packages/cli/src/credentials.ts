import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { parseManagerUrl } from './manager-url.ts';

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

/**
 * From VIRT_TRUST_URL and VIRT_TRUST_TOKEN, else from the file that `virt-trust login` wrote.
 * Throws `cli.no_token`, `cli.token_malformed`, `cli.url_malformed`, `cli.url_insecure`.
 */
export function readCredentials(): Credentials {
  const saved = savedCredentials();
  const url = parseManagerUrl(process.env['VIRT_TRUST_URL'] || saved?.url || DEFAULT_URL);
  // SECURITY: a saved token goes to the manager that it was saved for, and to no other.
  const token =
    process.env['VIRT_TRUST_TOKEN'] ||
    (saved !== undefined && parseManagerUrl(saved.url) === url ? saved.token : '');
  if (token === '') {
    throw new TrustError(
      'cli.no_token',
      'unauthenticated',
      `cannot ask the manager at ${url}: there is no token for it`,
      {
        hint: 'give the one that the manager showed at its first start to: virt-trust login (or set VIRT_TRUST_TOKEN)',
      },
    );
  }
  return { url, token: parseToken(token) };
}

/** A token as it can go into a header; the message never shows it. Throws `cli.token_malformed`. */
export function parseToken(text: string): string {
  if (/^[\x21-\x7e]{1,1024}$/.test(text)) return text;
  throw new TrustError(
    'cli.token_malformed',
    'invalid',
    'cannot use the token: it is not one word of ASCII',
    {
      hint: 'a token begins with vt_ and is one line',
    },
  );
}

/** What `virt-trust login` saved, if anything. Throws `cli.credentials_unreadable`, `cli.credentials_malformed`. */
export function savedCredentials(file = credentialsFile()): Credentials | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new TrustError(
      'cli.credentials_unreadable',
      'invalid',
      `cannot read the saved token: ${describeError(cause)}`,
      { cause },
    );
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
    { hint: `delete it and log in anew: rm ${file}; virt-trust login` },
  );
}

/** Saves the token where only this user reads it. Returns the file's name. Throws `cli.credentials_unwritable`. */
export function saveCredentials(credentials: Credentials, file = credentialsFile()): string {
  const fresh = `${file}.${process.pid}`;
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(fresh, `${JSON.stringify(credentials)}\n`, { mode: 0o600 });
    renameSync(fresh, file);
  } catch (cause) {
    throw new TrustError(
      'cli.credentials_unwritable',
      'failed',
      `cannot save the token: ${describeError(cause)}`,
      { cause, hint: 'set VIRT_TRUST_URL and VIRT_TRUST_TOKEN instead' },
    );
  }
  return file;
}
