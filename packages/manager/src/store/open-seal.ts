import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { Seal } from '../seal/seal.ts';
import { type SealKey, sealKeyOf } from '../seal/seal-key.ts';
import { credentialNotOurs, readSealKeys, type SealKeyPlace, writeSealKeys } from '../seal/seal-key-file.ts';
import type { Database } from './database.ts';
import { bytes } from './row.ts';
import { SqliteSealedValues } from './sealed-values.ts';

const CHECK = { table: 'seal_check', row: '1', column: 'value' };
const CHECK_TEXT = Buffer.from('virt-trust');

/**
 * The seal of a database: makes the key at the first start, refuses a key that is not the database's, and finishes a
 * rotation that was interrupted (or that an administrator began by adding a key to the credential).
 */
export function openSeal(database: Database, place: SealKeyPlace, randomness: Randomness): Seal {
  const check = database.get('select value from seal_check where id = 1');
  let keys = readSealKeys(place);
  if (keys === undefined) {
    if (check !== undefined) throw missingKey(place);
    keys = [sealKeyOf(randomness.bytes(32))];
    writeSealKeys(place.path, keys);
  }
  const seal = new Seal(keys, randomness);
  if (check === undefined) {
    database.run('insert into seal_check (id, value) values (1, ?)', seal.seal(CHECK, CHECK_TEXT));
    return seal;
  }
  verifyCheck(seal, bytes(check, 'value'), place);
  if (keys.length > 1) return finishRotation(database, place, keys, randomness);
  return seal;
}

/**
 * Seals everything anew under a fresh key and destroys the old one; returns the new seal. Killed at any point, both keys
 * are in the file, and the next start finishes.
 */
export function rotateSealKey(database: Database, place: SealKeyPlace, randomness: Randomness): Seal {
  // First the key must be this database's, and a rotation that was interrupted be finished.
  openSeal(database, place, randomness);
  const keys = readSealKeys(place);
  if (keys === undefined) throw missingKey(place);
  if (place.kind === 'credential') throw credentialNotOurs(place);
  const next = [...keys, sealKeyOf(randomness.bytes(32))];
  writeSealKeys(place.path, next);
  return finishRotation(database, place, next, randomness);
}

function finishRotation(
  database: Database,
  place: SealKeyPlace,
  keys: readonly SealKey[],
  randomness: Randomness,
): Seal {
  const seal = new Seal(keys, randomness);
  const values = new SqliteSealedValues(database);
  database.transaction(() => values.sealAnew(seal, Number.MAX_SAFE_INTEGER));
  // What the old key sealed must not stay behind in the log file, nor the old key in the key file.
  database.all('pragma wal_checkpoint(truncate)');
  if (place.kind === 'credential') return seal;
  const active = keys.slice(-1);
  writeSealKeys(place.path, active);
  return new Seal(active, randomness);
}

function verifyCheck(seal: Seal, value: Uint8Array, place: SealKeyPlace): void {
  try {
    seal.open(CHECK, value);
  } catch (cause) {
    if (!isTrustError(cause)) throw cause;
    throw new TrustError(
      'seal.wrong_key',
      'conflict',
      `cannot open the store: ${place.path} is not the seal key of this database`,
      { hint: 'restore the seal key that belongs to this database', cause },
    );
  }
}

function missingKey(place: SealKeyPlace): TrustError {
  return new TrustError(
    'seal.key_missing',
    'conflict',
    `cannot open the store: its seal key ${place.path} is missing`,
    { hint: 'restore the seal key that belongs to this database' },
  );
}
