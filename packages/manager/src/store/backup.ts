import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  linkSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { backup as copyDatabase, DatabaseSync } from 'node:sqlite';
import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { VERSION } from '@virt-trust/base/version.ts';
import type { BackupHeader } from '@virt-trust/contract/model/backup.ts';
import { Seal } from '../seal/seal.ts';
import type { SealKey } from '../seal/seal-key.ts';
import { readSealKeys, type SealKeyPlace, sealKeyPlace, writeSealKeys } from '../seal/seal-key-file.ts';
import { encodePrefix } from './backup-file.ts';
import { Database } from './database.ts';
import { integer, text } from './row.ts';
import { SqliteSealedValues } from './sealed-values.ts';
import { storeError } from './store-error.ts';
import { verifyStore } from './verify-store.ts';

export interface BackupOptions {
  readonly stateDirectory: string;
  readonly to: string;
  /** The seal key, where it is neither in the state directory nor a credential of this process. */
  readonly sealKeyFile?: string | undefined;
  readonly credentialsDirectory?: string | undefined;
  /** Where a copy of the seal key goes; nowhere unless said. */
  readonly sealKeyTo?: string | undefined;
  readonly clock: Clock;
  readonly randomness: Randomness;
}

export interface BackupMade {
  readonly path: string;
  readonly header: BackupHeader;
}

/** The whole database in one step: a reader of the log that holds up no writer. */
const ALL_PAGES = 0x7fff_ffff;

/**
 * Copies the store of a manager, running or not, as it is at one moment: consistent, proven to open, authenticated by the
 * seal key and without it, for its owner alone. Never overwrites.
 */
export async function backUp(options: BackupOptions): Promise<BackupMade> {
  const path = resolve(options.to);
  const sealKeyTo = options.sealKeyTo === undefined ? undefined : resolve(options.sealKeyTo);
  for (const target of [path, sealKeyTo]) if (target !== undefined) refuseExisting(target);
  const source = join(options.stateDirectory, 'manager.db');
  if (!existsSync(source)) throw noStore(options.stateDirectory);
  const place = keyPlaceOf(options);
  const drafts: string[] = [];
  const draftFor = (target: string) => {
    const made = makeDraft(target);
    drafts.push(made);
    return made;
  };
  try {
    const draft = draftFor(path);
    // Beside its own target, which is meant to be on another disk.
    const keyDraft = sealKeyTo === undefined ? undefined : draftFor(sealKeyTo);
    // Read before and after: a rotation that is under way ends with the old key's destruction.
    const before = keysOf(place);
    await copyTo(source, join(draft, 'db'));
    const keys = distinct([...before, ...keysOf(place)]);
    const header = await describe(join(draft, 'db'), keys, options);
    const [key] = keys.slice(-1);
    if (key === undefined) throw noKey(place);
    await compose(join(draft, 'db'), join(draft, 'backup'), encodePrefix(header, key));
    if (sealKeyTo !== undefined && keyDraft !== undefined) {
      writeSealKeys(join(keyDraft, 'key'), keys);
      publish(join(keyDraft, 'key'), sealKeyTo);
    }
    publish(join(draft, 'backup'), path);
    return { path, header };
  } catch (cause) {
    throw storeError(`cannot back up ${options.stateDirectory} to ${path}`, cause);
  } finally {
    for (const draft of drafts) rmSync(draft, { recursive: true, force: true });
  }
}

function keyPlaceOf({ sealKeyFile, stateDirectory, credentialsDirectory }: BackupOptions): SealKeyPlace {
  if (sealKeyFile !== undefined) return { kind: 'file', path: sealKeyFile };
  return sealKeyPlace(stateDirectory, credentialsDirectory);
}

function keysOf(place: SealKeyPlace): SealKey[] {
  const keys = readSealKeys(place);
  if (keys === undefined) throw noKey(place);
  return keys;
}

function distinct(keys: readonly SealKey[]): SealKey[] {
  return [...new Map(keys.map((key) => [key.id, key])).values()];
}

/** A directory of its own (0700) beside the target, so that the last step is a rename. */
function makeDraft(path: string): string {
  try {
    return mkdtempSync(join(dirname(path), '.virt-trust-backup-'));
  } catch (cause) {
    throw storeError(`cannot write a backup to ${path}`, cause);
  }
}

async function copyTo(source: string, target: string): Promise<void> {
  // SECURITY: made by us first, so that it never is readable to others.
  closeSync(openSync(target, 'wx', 0o600));
  const connection = new DatabaseSync(source, { readOnly: true, timeout: 5000 });
  try {
    await copyDatabase(connection, target, { rate: ALL_PAGES });
  } finally {
    connection.close();
  }
}

async function describe(
  copy: string,
  keys: readonly SealKey[],
  options: BackupOptions,
): Promise<BackupHeader> {
  const database = new Database(copy);
  let facts: Pick<BackupHeader, 'schema' | 'sealKeys' | 'audit'>;
  try {
    const audit = verifyStore(database, options.stateDirectory);
    const sealKeys = neededKeys(database, keys, options);
    const newest = database.get('select number, name from migrations order by number desc limit 1') ?? {};
    facts = { schema: { number: integer(newest, 'number'), name: text(newest, 'name') }, sealKeys, audit };
    // One file, with no log beside it.
    database.all('pragma journal_mode = delete');
  } finally {
    database.close();
  }
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(copy)) hash.update(chunk as Buffer);
  return {
    version: VERSION,
    madeAt: options.clock.now(),
    ...facts,
    authenticatedBy: keys.at(-1)?.id ?? '',
    bytes: statSync(copy).size,
    sha256: hash.digest('hex'),
  };
}

function neededKeys(database: Database, keys: readonly SealKey[], { randomness }: BackupOptions): string[] {
  try {
    return new SqliteSealedValues(database).verify(new Seal(keys, randomness));
  } catch (cause) {
    if (!isTrustError(cause)) throw cause;
    throw new TrustError(
      'backup.wrong_key',
      'conflict',
      `cannot make a backup that could be restored: ${cause.message}`,
      {
        cause,
        hint: 'give the seal key of this manager with --seal-key FILE',
      },
    );
  }
}

async function compose(copy: string, target: string, prefix: Uint8Array): Promise<void> {
  const file = openSync(target, 'wx', 0o600);
  try {
    writeSync(file, prefix);
    for await (const chunk of createReadStream(copy)) writeSync(file, chunk as Buffer);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** A link, which unlike a rename never replaces what came to be there meanwhile. */
function publish(draft: string, path: string): void {
  try {
    linkSync(draft, path);
  } catch (cause) {
    if ((cause as { code?: unknown }).code === 'EEXIST') throw exists(path);
    throw cause;
  }
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function refuseExisting(path: string): void {
  if (existsSync(path)) throw exists(path);
}

function exists(path: string): TrustError {
  return new TrustError('backup.exists', 'conflict', `cannot write ${path}: it is there already`, {
    hint: 'give each backup a name of its own, such as one with the date',
  });
}

function noStore(directory: string): TrustError {
  return new TrustError(
    'backup.no_store',
    'not-found',
    `cannot back up ${directory}: no manager's store is there`,
    {
      hint: 'give the directory that the manager was started with: virt-trust serve --state-dir DIRECTORY',
    },
  );
}

function noKey(place: SealKeyPlace): TrustError {
  return new TrustError(
    'backup.no_key',
    'not-found',
    `cannot make a backup: the seal key ${place.path} is not there`,
    {
      hint: 'a backup is proven to open and authenticated by the seal key, and does not hold it: give it with --seal-key FILE',
    },
  );
}
