import type { Clock } from '@virt-trust/base/clock.ts';
import { sha256Hex } from '@virt-trust/base/digest.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Database } from './database.ts';
import type { Migration } from './migrations/migration.ts';
import { integer, text } from './row.ts';

/** Brings the schema up to the last of `migrations`; refuses a schema that is newer or was altered. */
export function migrate(database: Database, migrations: readonly Migration[], clock: Clock): void {
  database.transaction(() => {
    database.script(
      `create table if not exists migrations (
        number integer primary key, name text not null, checksum text not null, applied_at integer not null
      ) strict`,
    );
    const applied = new Map(
      database
        .all('select number, name, checksum from migrations order by number')
        .map((row) => [integer(row, 'number'), { name: text(row, 'name'), checksum: text(row, 'checksum') }]),
    );
    const newest = Math.max(0, ...applied.keys());
    for (const [number, { name }] of applied) {
      if (!migrations.some((migration) => migration.number === number)) throw newerSchema(number, name);
    }
    let previous = 0;
    for (const migration of migrations) {
      if (migration.number <= previous) throw outOfOrder(migration);
      previous = migration.number;
      const checksum = sha256Hex(migration.sql);
      const before = applied.get(migration.number);
      if (before !== undefined) {
        if (before.checksum !== checksum) throw altered(migration);
        continue;
      }
      if (migration.number < newest) throw outOfOrder(migration);
      database.script(migration.sql);
      database.run(
        'insert into migrations (number, name, checksum, applied_at) values (?, ?, ?, ?)',
        migration.number,
        migration.name,
        checksum,
        clock.now(),
      );
    }
  });
}

function newerSchema(number: number, name: string): TrustError {
  return new TrustError(
    'store.newer_schema',
    'conflict',
    `cannot open the store: its schema has migration ${number} (${name}), which this version does not know`,
    {
      hint: 'start the newer version of virt-trust that wrote it, or restore a backup made before the upgrade',
    },
  );
}

function altered(migration: Migration): TrustError {
  return new TrustError(
    'store.altered_migration',
    'conflict',
    `cannot open the store: migration ${migration.number} (${migration.name}) is not the one that was applied`,
    { hint: 'start the version of virt-trust that made this store' },
  );
}

function outOfOrder(migration: Migration): TrustError {
  return new TrustError(
    'store.migration_order',
    'conflict',
    `cannot open the store: migration ${migration.number} (${migration.name}) comes before one that was applied`,
    { hint: 'start the version of virt-trust that made this store' },
  );
}
