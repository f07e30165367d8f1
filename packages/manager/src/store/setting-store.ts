import type { Clock } from '@virt-trust/base/clock.ts';
import type { SettingValue } from '@virt-trust/contract/model/manager.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { SettingPlace, SettingStore } from '../settings/setting-store.ts';
import { appendAudit } from './audit-log.ts';
import type { Database } from './database.ts';
import { json } from './row.ts';

/** The settings in SQLite. */
export class SqliteSettingStore implements SettingStore {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async get(place: SettingPlace, name: string): Promise<SettingValue | undefined> {
    const row = this.#database.get(
      'select value from settings where scope = ? and target = ? and name = ?',
      place.scope,
      place.target,
      name,
    );
    return row === undefined ? undefined : json<SettingValue>(row, 'value');
  }

  async put(place: SettingPlace, name: string, value: SettingValue, audit: AuditDraft): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run(
        `insert into settings (scope, target, name, value) values (?, ?, ?, ?)
          on conflict do update set value = excluded.value`,
        place.scope,
        place.target,
        name,
        JSON.stringify(value),
      );
      appendAudit(this.#database, this.#clock, [audit]);
    });
  }

  async delete(place: SettingPlace, name: string, audit: AuditDraft): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run(
        'delete from settings where scope = ? and target = ? and name = ?',
        place.scope,
        place.target,
        name,
      );
      appendAudit(this.#database, this.#clock, [audit]);
    });
  }
}
