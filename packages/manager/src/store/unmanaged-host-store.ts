import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { UnmanagedHost } from '@virt-trust/contract/model/unmanaged-host.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { UnmanagedHostOrder, UnmanagedHostStore } from '../migration/unmanaged-hosts.ts';
import { appendAudit } from './audit-log.ts';
import type { Database, Row } from './database.ts';
import { text, time } from './row.ts';

/** The hosts without an agent in SQLite. */
export class SqliteUnmanagedHostStore implements UnmanagedHostStore {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async list(): Promise<readonly UnmanagedHost[]> {
    return this.#database.all('select * from unmanaged_hosts order by name').map(hostOf);
  }

  async find(name: string): Promise<UnmanagedHost | null> {
    return this.#find(name);
  }

  async put({ name, cluster: wanted, address }: UnmanagedHostOrder, actor: string): Promise<UnmanagedHost> {
    return this.#database.transaction(() => {
      if (this.#database.get('select id from hosts where name = ?', name) !== undefined) throw managed(name);
      const holder = this.#database.get(
        'select hosts.name as holder from host_names join hosts on hosts.id = host_names.host where host_names.name = ?',
        claimKey(address),
      );
      // SECURITY: a secured host is not to be reached in the clear under another name.
      if (holder !== undefined) throw addressTaken(name, address, text(holder, 'holder'));
      const before = this.#find(name);
      const cluster = wanted ?? before?.cluster ?? 'default';
      if (before?.cluster === cluster && before.address === address) return before;
      const addedAt = before?.addedAt ?? this.#clock.now();
      this.#database.run(
        `insert into unmanaged_hosts (name, cluster, address, added_at) values (?, ?, ?, ?)
          on conflict do update set cluster = excluded.cluster, address = excluded.address`,
        name,
        cluster,
        address,
        addedAt,
      );
      const was = before === null ? '' : `; was at ${before.address} in cluster ${before.cluster}`;
      this.#audit(
        actor,
        'host.add_unmanaged',
        name,
        `at ${address} in cluster ${cluster}, without agent${was}`,
      );
      return { name, cluster, address, addedAt };
    });
  }

  async remove(name: string, actor: string): Promise<void> {
    this.#database.transaction(() => {
      if (this.#database.run('delete from unmanaged_hosts where name = ?', name) === 0)
        throw new TrustError(
          'host.unknown',
          'not-found',
          `cannot remove host ${name}: there is no unmanaged host of that name`,
          { hint: 'see them with: virt-trust host list' },
        );
      this.#audit(actor, 'host.remove_unmanaged', name, 'it had no agent, nothing on it is changed');
    });
  }

  #find(name: string): UnmanagedHost | null {
    const row = this.#database.get('select * from unmanaged_hosts where name = ?', name);
    return row === undefined ? null : hostOf(row);
  }

  #audit(actor: string, action: string, subject: string, detail: string): void {
    appendAudit(this.#database, this.#clock, [{ actor, action, subject, outcome: 'done', detail }]);
  }
}

function hostOf(row: Row): UnmanagedHost {
  return {
    name: text(row, 'name'),
    cluster: text(row, 'cluster'),
    address: text(row, 'address'),
    addedAt: time(row, 'added_at'),
  };
}

function managed(name: string): TrustError {
  return new TrustError(
    'host.managed',
    'conflict',
    `cannot know host ${name} as one without an agent: it is under management`,
    { hint: `give it back first: virt-trust host remove ${name}` },
  );
}

function addressTaken(name: string, address: string, holder: string): TrustError {
  return new TrustError(
    'host.name_conflict',
    'conflict',
    `cannot know host ${name} at ${address}: that address belongs to host ${holder}, which is under management`,
    { hint: `migrate to host ${holder} by its name` },
  );
}
