import { createCipheriv, createDecipheriv } from 'node:crypto';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { SealKey } from './seal-key.ts';

/** Where a sealed value stands; it opens at that place only. */
export interface SealedPlace {
  readonly table: string;
  /** The row's primary key as text. */
  readonly row: string;
  readonly column: string;
}

const VERSION = 1;
const ID = 4;
const NONCE = 12;
const TAG = 16;

/**
 * Seals secret columns with AES-256-GCM (NIST SP 800-38D), bound to table, row and column. A sealed value is a version
 * byte, the key's id, the nonce, the ciphertext and the tag.
 */
export class Seal {
  readonly #randomness: Randomness;
  #keys: ReadonlyMap<string, SealKey>;
  #active: SealKey;

  /** `keys` with the one in use last. */
  constructor(keys: readonly SealKey[], randomness: Randomness) {
    this.#active = activeOf(keys);
    this.#keys = new Map(keys.map((key) => [key.id, key]));
    this.#randomness = randomness;
  }

  /** From now on seals under the last of `keys` and opens under each. */
  use(keys: readonly SealKey[]): void {
    this.#active = activeOf(keys);
    this.#keys = new Map(keys.map((key) => [key.id, key]));
  }

  /** The key in use. */
  get keyId(): string {
    return this.#active.id;
  }

  seal(place: SealedPlace, plaintext: Uint8Array): Uint8Array {
    const id = Buffer.from(this.#active.id, 'hex');
    const nonce = this.#randomness.bytes(NONCE);
    const cipher = createCipheriv('aes-256-gcm', this.#active.secret, nonce, { authTagLength: TAG });
    // SECURITY: without the place, whoever can write the database could put one key where another is expected.
    cipher.setAAD(associatedData(place, this.#active.id));
    const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    return Buffer.concat([Buffer.of(VERSION), id, nonce, ciphertext, cipher.getAuthTag()]);
  }

  /** The plaintext; throws `seal.broken` where the value was altered or belongs to another place. */
  open(place: SealedPlace, sealed: Uint8Array): Uint8Array {
    const value = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
    if (value.length < 1 + ID + NONCE + TAG || value[0] !== VERSION)
      throw broken(place, 'not a sealed value');
    const id = value.toString('hex', 1, 1 + ID);
    const key = this.#keys.get(id);
    if (key === undefined) throw unknownKey(place, id);
    const nonce = value.subarray(1 + ID, 1 + ID + NONCE);
    const decipher = createDecipheriv('aes-256-gcm', key.secret, nonce, { authTagLength: TAG });
    decipher.setAAD(associatedData(place, id));
    decipher.setAuthTag(value.subarray(-TAG));
    try {
      const plaintext = decipher.update(value.subarray(1 + ID + NONCE, -TAG));
      // SECURITY: final() verifies the tag; nothing is returned before.
      decipher.final();
      return plaintext;
    } catch {
      throw broken(place, 'it was altered, or sealed for another place');
    }
  }
}

/** The id of the key that a value is sealed under; empty where it is no sealed value. */
export function sealedUnder(sealed: Uint8Array): string {
  return sealed[0] === VERSION ? Buffer.from(sealed.subarray(1, 1 + ID)).toString('hex') : '';
}

function activeOf(keys: readonly SealKey[]): SealKey {
  const active = keys.at(-1);
  if (active === undefined)
    throw new TrustError('seal.no_key', 'internal', 'cannot seal: the keyring is empty');
  return active;
}

function associatedData(place: SealedPlace, keyId: string): Uint8Array {
  return Buffer.from(JSON.stringify(['virt-trust seal 1', keyId, place.table, place.row, place.column]));
}

function broken(place: SealedPlace, reason: string): TrustError {
  return new TrustError(
    'seal.broken',
    'internal',
    `cannot unseal ${place.table}.${place.column} of ${JSON.stringify(place.row)}: ${reason}`,
    { hint: 'restore the state directory from a backup' },
  );
}

function unknownKey(place: SealedPlace, id: string): TrustError {
  return new TrustError(
    'seal.key_unknown',
    'conflict',
    `cannot unseal ${place.table}.${place.column} of ${JSON.stringify(place.row)}: seal key ${id} is not in the keyring`,
    { hint: 'restore the seal key that belongs to this database' },
  );
}
