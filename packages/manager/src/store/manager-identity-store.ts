import { type ChannelIdentity, loadChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { IdentityPosition, ManagerIdentityStore, Recovery } from '../hosts/manager-identity.ts';
import type { Seal } from '../seal/seal.ts';
import type { Database } from './database.ts';
import { bytes, integer, text } from './row.ts';

const PINS_NUMBER = 'manager_pins';
const RECOVERY = 'recovery';
/** By the number that stands for each. */
const RECOVERIES: readonly Recovery[] = ['none', 'looking', 'rolled'];

/** What a restored store says of itself, for who restores it. */
export function markRestored(database: Database, epoch: number): void {
  const set =
    'insert into manager_numbers (name, value) values (?, ?) on conflict (name) do update set value = excluded.value';
  database.run(set, 'epoch', epoch);
  database.run(set, RECOVERY, RECOVERIES.indexOf('looking'));
}

/** The manager's channel keys in SQLite, sealed. */
export class SqliteManagerIdentityStore implements ManagerIdentityStore {
  readonly #database: Database;
  readonly #seal: Seal;

  constructor(database: Database, seal: Seal) {
    this.#database = database;
    this.#seal = seal;
  }

  async get(position: IdentityPosition): Promise<ChannelIdentity<'manager'> | null> {
    const row = this.#database.get(
      'select pin, certificate, sealed_key from manager_identities where position = ?',
      position,
    );
    if (row === undefined) return null;
    const key = this.#seal.open(placeOf(text(row, 'pin')), bytes(row, 'sealed_key'));
    return loadChannelIdentity({
      role: 'manager',
      certificatePem: text(row, 'certificate'),
      privateKeyPem: Buffer.from(key).toString('utf8'),
    });
  }

  async put(position: 'current' | 'next', identity: ChannelIdentity<'manager'>): Promise<void> {
    this.#database.transaction(() => {
      this.#insert(position, identity);
      this.#raisePins();
    });
  }

  async promote(next: ChannelIdentity<'manager'>): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run("delete from manager_identities where position = 'previous'");
      this.#database.run("update manager_identities set position = 'previous' where position = 'current'");
      this.#database.run("update manager_identities set position = 'current' where position = 'next'");
      this.#insert('next', next);
      this.#raisePins();
    });
  }

  async retire(): Promise<void> {
    this.#database.transaction(() => {
      const gone = this.#database.run("delete from manager_identities where position = 'previous'");
      if (gone > 0) this.#raisePins();
    });
  }

  async epoch(): Promise<number> {
    this.#database.run(
      "insert into manager_numbers (name, value) values ('epoch', 1) on conflict do nothing",
    );
    return this.#number('epoch');
  }

  async pinsNumber(): Promise<number> {
    return this.#number(PINS_NUMBER);
  }

  async recovery(): Promise<Recovery> {
    return RECOVERIES[this.#number(RECOVERY)] ?? 'none';
  }

  async setRecovery(recovery: Recovery): Promise<void> {
    this.#database.run(
      'insert into manager_numbers (name, value) values (?, ?) on conflict (name) do update set value = excluded.value',
      RECOVERY,
      RECOVERIES.indexOf(recovery),
    );
  }

  #insert(position: IdentityPosition, identity: ChannelIdentity<'manager'>): void {
    this.#database.run(
      'insert into manager_identities (pin, position, certificate, sealed_key) values (?, ?, ?, ?)',
      identity.pin,
      position,
      identity.certificatePem,
      this.#seal.seal(placeOf(identity.pin), Buffer.from(identity.privateKeyPem, 'utf8')),
    );
  }

  #raisePins(): void {
    this.#database.run(
      'insert into manager_numbers (name, value) values (?, 1) on conflict (name) do update set value = value + 1',
      PINS_NUMBER,
    );
  }

  #number(name: string): number {
    const row = this.#database.get('select value from manager_numbers where name = ?', name);
    return row === undefined ? 0 : integer(row, 'value');
  }
}

function placeOf(pin: string) {
  return { table: 'manager_identities', row: pin, column: 'sealed_key' };
}
