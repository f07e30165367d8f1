import { type ChannelIdentity, loadChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { IdentityPosition, ManagerIdentityStore } from '../hosts/manager-identity.ts';
import type { Seal } from '../seal/seal.ts';
import type { Database } from './database.ts';
import { bytes, integer, text } from './row.ts';

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

  async put(position: IdentityPosition, identity: ChannelIdentity<'manager'>): Promise<void> {
    const sealed = this.#seal.seal(placeOf(identity.pin), Buffer.from(identity.privateKeyPem, 'utf8'));
    this.#database.run(
      'insert into manager_identities (pin, position, certificate, sealed_key) values (?, ?, ?, ?)',
      identity.pin,
      position,
      identity.certificatePem,
      sealed,
    );
  }

  async promote(): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run("delete from manager_identities where position = 'previous'");
      this.#database.run("update manager_identities set position = 'previous' where position = 'current'");
      this.#database.run("update manager_identities set position = 'current' where position = 'next'");
    });
  }

  async retire(): Promise<void> {
    this.#database.run("delete from manager_identities where position = 'previous'");
  }

  async number(name: string): Promise<number> {
    const row = this.#database.get('select value from manager_numbers where name = ?', name);
    return row === undefined ? 0 : integer(row, 'value');
  }

  async raise(name: string): Promise<number> {
    return this.#database.transaction(() => {
      this.#database.run(
        'insert into manager_numbers (name, value) values (?, 1) on conflict (name) do update set value = value + 1',
        name,
      );
      const row = this.#database.get('select value from manager_numbers where name = ?', name) ?? {};
      return integer(row, 'value');
    });
  }
}

function placeOf(pin: string) {
  return { table: 'manager_identities', row: pin, column: 'sealed_key' };
}
