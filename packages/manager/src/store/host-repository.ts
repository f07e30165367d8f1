import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { Claims, Host, HostRepository } from '../hosts/host.ts';
import { knownUnmanaged, nameConflict } from '../hosts/name-conflict.ts';
import { appendAudit } from './audit-log.ts';
import type { Database } from './database.ts';
import { carryHostName } from './host-renaming.ts';
import { json, text } from './row.ts';

/** The hosts in SQLite: what is asked for by column, the rest one document. */
export class SqliteHostRepository implements HostRepository {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #listeners: ((id: HostId) => void)[] = [];

  constructor(database: Database, clock: Clock = systemClock) {
    this.#database = database;
    this.#clock = clock;
  }

  async list(): Promise<readonly Host[]> {
    return this.#database
      .all('select document from hosts order by name')
      .map((row) => json<Host>(row, 'document'));
  }

  async ids(): Promise<readonly HostId[]> {
    return this.#database.all('select id from hosts order by name').map((row) => text(row, 'id') as HostId);
  }

  async find(name: string): Promise<Host | null> {
    const row = this.#database.get('select document from hosts where name = ?', name);
    return row === undefined ? null : json<Host>(row, 'document');
  }

  async get(id: HostId): Promise<Host | null> {
    const row = this.#database.get('select document from hosts where id = ?', id);
    return row === undefined ? null : json<Host>(row, 'document');
  }

  async unmanagedAddress(name: string): Promise<string | null> {
    const row = this.#database.get('select address from unmanaged_hosts where name = ?', name);
    return row === undefined ? null : text(row, 'address');
  }

  onChange(listener: (id: HostId) => void): void {
    this.#listeners.push(listener);
  }

  async save(host: Host, audit: readonly AuditDraft[] = []): Promise<void> {
    this.#database.transaction(() => {
      this.#write(host);
      this.#claim(host);
      appendAudit(this.#database, this.#clock, audit);
    });
    this.#tell(host.id);
  }

  async update(
    id: HostId,
    change: (host: Host, claims: Claims) => Host,
    audit: (before: Host, after: Host) => readonly AuditDraft[] = () => [],
  ): Promise<Host> {
    const { before, after } = this.#database.transaction(() => {
      const row = this.#database.get('select document from hosts where id = ?', id);
      if (row === undefined) throw unknown(id);
      const before = json<Host>(row, 'document');
      const after = change(before, { holderOf: (name) => this.#holder(name, id) });
      if (after === before) return { before, after };
      if (after.id !== id) throw new RangeError('cannot change the id of a host');
      if (after.name !== before.name) this.#rename(before, after);
      this.#write(after);
      // Claims are read and written row by row: only who changes names or the name pays for it.
      if (after.declared !== before.declared || after.name !== before.name) this.#claim(after);
      appendAudit(this.#database, this.#clock, audit(before, after));
      return { before, after };
    });
    // Some who are told write the host themselves: where nothing was written, they would go round and round.
    if (after !== before) this.#tell(id);
    return after;
  }

  #rename(before: Host, after: Host): void {
    // Before anything goes under the other's name.
    this.#refuseTakenName(after);
    carryHostName(this.#database, before.name, after.name);
  }

  #tell(id: HostId): void {
    for (const listener of this.#listeners) listener(id);
  }

  #refuseTakenName(host: Host): void {
    const other = this.#database.get('select id from hosts where name = ? and id <> ?', host.name, host.id);
    if (other !== undefined) throw nameConflict(host.name, host.name, host.name);
    if (this.#database.get('select name from unmanaged_hosts where name = ?', host.name) !== undefined)
      throw knownUnmanaged(host.name);
  }

  #write(host: Host): void {
    this.#refuseTakenName(host);
    this.#database.run(
      `insert into hosts (id, name, cluster, state, document) values (?, ?, ?, ?, ?)
        on conflict (id) do update set name = excluded.name, cluster = excluded.cluster, state = excluded.state,
        document = excluded.document`,
      host.id,
      host.name,
      host.cluster,
      host.state,
      JSON.stringify(host),
    );
  }

  /** SECURITY: whatever is declared, a name or address that another host has is refused; the incumbent keeps it. */
  #claim(host: Host): void {
    this.#database.run('delete from host_names where host = ?', host.id);
    const { dns, addresses } = host.declared.names;
    const names = new Set([...dns, ...addresses, host.name].map(claimKey));
    for (const name of names) {
      const holder = this.#holder(name, host.id);
      if (holder !== null) throw nameConflict(host.name, name, holder);
      this.#database.run('insert into host_names (name, host) values (?, ?)', name, host.id);
    }
  }

  #holder(name: string, except: HostId): string | null {
    const row = this.#database.get(
      `select hosts.name as holder from host_names join hosts on hosts.id = host_names.host
        where host_names.name = ? and host_names.host <> ?`,
      claimKey(name),
      except,
    );
    return row === undefined ? null : text(row, 'holder');
  }

  async holders(names: readonly string[], except: HostId): Promise<ReadonlyMap<string, string>> {
    const held = names.map((name) => [name, this.#holder(name, except)] as const);
    return new Map(held.flatMap(([name, holder]) => (holder === null ? [] : [[claimKey(name), holder]])));
  }

  async remove(id: HostId): Promise<void> {
    this.#database.run('delete from hosts where id = ?', id);
    this.#tell(id);
  }
}

function unknown(id: HostId): TrustError {
  return new TrustError('host.unknown', 'not-found', `cannot change host ${id}: it was removed meanwhile`);
}
