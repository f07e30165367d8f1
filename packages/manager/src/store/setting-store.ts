import type { Clock } from '@virt-trust/base/clock.ts';
import type { SettingValue } from '@virt-trust/contract/model/setting.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { SettingPlace, SettingStore } from '../settings/setting-store.ts';
import { appendAudit } from './audit-log.ts';
import type { Database } from './database.ts';
import { json, text } from './row.ts';

/** The settings in SQLite. */
export class SqliteSettingStore implements SettingStore {
  readonly #database: Database;
  readonly #clock: Clock;
  /** All values, read once: this process alone writes them, and each certificate asks for several. */
  #values: ReadonlyMap<string, SettingValue> | undefined;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async get(place: SettingPlace, name: string): Promise<SettingValue | undefined> {
    this.#values ??= this.#read();
    return this.#values.get(keyOf(place, name));
  }

  async put(place: SettingPlace, name: string, value: SettingValue, audit: AuditDraft): Promise<void> {
    this.#values = undefined;
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
    this.#values = undefined;
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

  async clear(place: SettingPlace, audit: (name: string) => AuditDraft): Promise<string[]> {
    this.#values = undefined;
    return this.#database.transaction(() => {
      const { scope, target } = place;
      const names = this.#database
        .all('select name from settings where scope = ? and target = ? order by name', scope, target)
        .map((row) => text(row, 'name'));
      this.#database.run('delete from settings where scope = ? and target = ?', scope, target);
      appendAudit(this.#database, this.#clock, names.map(audit));
      return names;
    });
  }

  reread(): void {
    this.#values = undefined;
  }

  #read(): ReadonlyMap<string, SettingValue> {
    const rows = this.#database.all('select scope, target, name, value from settings');
    return new Map(
      rows.map((row) => [
        keyOf(
          { scope: text(row, 'scope') as SettingPlace['scope'], target: text(row, 'target') },
          text(row, 'name'),
        ),
        json<SettingValue>(row, 'value'),
      ]),
    );
  }
}

function keyOf(place: SettingPlace, name: string): string {
  return JSON.stringify([place.scope, place.target, name]);
}
