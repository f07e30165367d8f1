import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, instant } from '@virt-trust/base/instant.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { BackupHeader } from '@virt-trust/contract/model/backup.ts';
import { Seal } from '../seal/seal.ts';
import type { SealKey } from '../seal/seal-key.ts';
import { readSealKeys, sealKeyPlace, writeSealKeys } from '../seal/seal-key-file.ts';
import { MAX_PREFIX, readPrefix } from './backup-file.ts';
import { Database } from './database.ts';
import { markStoreRestored, type Restored } from './mark-restored.ts';
import { migrate } from './migration.ts';
import { MIGRATIONS } from './migrations.ts';
import { SqliteSealedValues } from './sealed-values.ts';
import { openStateDirectory } from './state-directory.ts';
import { storeError } from './store-error.ts';
import { verifyStore } from './verify-store.ts';

export interface RestoreOptions {
  readonly from: string;
  readonly stateDirectory: string;
  /** The seal key of the manager that was backed up, where it does not lie in the state directory already. */
  readonly sealKeyFile?: string | undefined;
  readonly credentialsDirectory?: string | undefined;
  readonly clock: Clock;
  readonly randomness: Randomness;
}

export interface RestoreDone extends Restored {
  readonly header: BackupHeader;
}

/** Until the last rename a restore is nothing but this file. */
export const RESTORING = 'manager.db.restoring';
/** What may lie in a directory that is empty: the lock, a key that was brought, an earlier attempt. */
const NOTHING = /^(?:manager\.lock.*|seal\.key(?:\.new)?|manager\.db\.restoring.*)$/;

/**
 * Puts a backup in place of an empty store: authenticated, whole, not newer than this program, its audit chain verified,
 * its secrets opened; then switched to by one rename. Killed anywhere, it is done or is nothing.
 */
export async function restore(options: RestoreOptions): Promise<RestoreDone> {
  const { stateDirectory, from } = options;
  const directory = openStateDirectory(stateDirectory);
  try {
    const former = emptyStoreIn(stateDirectory);
    const { header, length, verify } = readPrefix(readStart(from), from);
    const keys = keysFor(header, options);
    verify(keys.find(({ id }) => id === header.authenticatedBy) ?? fail(wrongKey(header, keys)));
    const draft = join(stateDirectory, RESTORING);
    removeDraft(draft);
    await unpack(from, length, header, draft);
    const restored = prepare(draft, header, keys, options);
    takeOver(draft, former, keys, options);
    return { header, ...restored };
  } catch (cause) {
    removeDraft(join(stateDirectory, RESTORING));
    throw storeError(`cannot restore ${from} into ${stateDirectory}`, cause);
  } finally {
    directory.release();
  }
}

function fail(error: TrustError): never {
  throw error;
}

/** The path of a store in which nothing has happened, undefined where there is none; throws `restore.not_empty`. */
function emptyStoreIn(directory: string): string | undefined {
  const path = join(directory, 'manager.db');
  const others = readdirSync(directory).filter(
    (name) => !NOTHING.test(name) && !name.startsWith('manager.db'),
  );
  if (others.length > 0) throw notEmpty(directory, `${others[0]} is in it`);
  if (!existsSync(path)) return undefined;
  const database = new Database(path);
  try {
    for (const table of ['hosts', 'certificates']) {
      const known = database.get('select 1 from pragma_table_list where name = ?', table) !== undefined;
      if (known && database.get(`select 1 from ${table} limit 1`) !== undefined)
        throw notEmpty(directory, `its manager has ${table} already`);
    }
    // With its log gone, one rename replaces it.
    database.all('pragma journal_mode = delete');
  } finally {
    database.close();
  }
  return path;
}

function readStart(path: string): Uint8Array {
  const file = openSync(path, 'r');
  try {
    const start = Buffer.alloc(MAX_PREFIX);
    return start.subarray(0, readSync(file, start, 0, start.length, 0));
  } finally {
    closeSync(file);
  }
}

function keysFor(header: BackupHeader, options: RestoreOptions): SealKey[] {
  const place =
    options.sealKeyFile === undefined
      ? sealKeyPlace(options.stateDirectory, options.credentialsDirectory)
      : ({ kind: 'file', path: options.sealKeyFile } as const);
  const keys = readSealKeys(place) ?? fail(noKey(header, place.path));
  const missing = header.sealKeys.some((id) => !keys.some((key) => key.id === id));
  return missing ? fail(wrongKey(header, keys)) : keys;
}

function removeDraft(draft: string): void {
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(`${draft}${suffix}`, { force: true });
}

async function unpack(from: string, start: number, header: BackupHeader, draft: string): Promise<void> {
  const hash = createHash('sha256');
  const file = openSync(draft, 'wx', 0o600);
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(from, { start })) {
      hash.update(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > header.bytes) break;
      writeSync(file, chunk as Buffer);
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  if (bytes !== header.bytes) throw damaged(from, `it has ${bytes} bytes in place of ${header.bytes}`);
  if (hash.digest('hex') !== header.sha256) throw damaged(from, 'its digest is another');
}

/** Brings the copy to this program's schema, verifies it, and tells it that it was restored. */
function prepare(
  draft: string,
  header: BackupHeader,
  keys: readonly SealKey[],
  { from, clock, randomness }: RestoreOptions,
): Restored {
  const database = new Database(draft);
  try {
    const audit = verifyStore(database, from);
    if (audit.head !== header.audit.head) throw damaged(from, 'its audit log ends elsewhere');
    migrate(database, MIGRATIONS, clock);
    new SqliteSealedValues(database).verify(new Seal(keys, randomness));
    const detail = `from a backup of ${formatInstant(instant(header.madeAt))}, audit entry ${audit.entries}`;
    const restored = markStoreRestored(database, clock, detail);
    database.all('pragma journal_mode = delete');
    return restored;
  } catch (cause) {
    if (isTrustError(cause, 'seal.key_unknown')) throw wrongKey(header, keys);
    throw cause;
  } finally {
    database.close();
  }
}

/** The key first, beside the one that an empty store has, then the rename that is the restore. */
function takeOver(
  draft: string,
  former: string | undefined,
  keys: readonly SealKey[],
  options: RestoreOptions,
): void {
  const { stateDirectory, sealKeyFile, credentialsDirectory } = options;
  const place = sealKeyPlace(stateDirectory, credentialsDirectory);
  const writes = sealKeyFile !== undefined && place.kind === 'file';
  if (writes) {
    const own = former === undefined ? [] : (readSealKeys(place) ?? []);
    const ids = new Set(keys.map(({ id }) => id));
    writeSealKeys(place.path, [...own.filter(({ id }) => !ids.has(id)), ...keys]);
  }
  renameSync(draft, join(stateDirectory, 'manager.db'));
  syncDirectory(stateDirectory);
  if (writes) writeSealKeys(place.path, keys);
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function notEmpty(directory: string, why: string): TrustError {
  return new TrustError('restore.not_empty', 'conflict', `cannot restore into ${directory}: ${why}`, {
    hint: 'give a directory that is not there yet or holds nothing; what is in this one stays as it is',
  });
}

function damaged(path: string, reason: string): TrustError {
  return new TrustError('backup.damaged', 'invalid', `cannot restore ${path}: ${reason}`, {
    hint: 'take another copy of it, or another backup',
  });
}

function noKey(header: BackupHeader, path: string): TrustError {
  return new TrustError('restore.no_key', 'not-found', `cannot restore: the seal key is not at ${path}`, {
    hint: `backups do not hold it: bring seal key ${header.sealKeys.join(', ')} with --seal-key FILE`,
  });
}

function wrongKey(header: BackupHeader, keys: readonly SealKey[]): TrustError {
  return new TrustError(
    'restore.wrong_key',
    'conflict',
    `cannot restore: the backup is sealed under key ${header.sealKeys.join(', ')}, and what was given is ${keys.map(({ id }) => id).join(', ')}`,
    { hint: 'bring the seal key as it was when the backup was made, with --seal-key FILE' },
  );
}
