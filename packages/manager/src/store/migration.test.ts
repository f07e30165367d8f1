import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { Database } from './database.ts';
import { settableClock, temporaryDirectory } from './fixtures.ts';
import { migrate } from './migration.ts';
import type { Migration } from './migrations/migration.ts';
import { MIGRATIONS } from './migrations.ts';

const clock = settableClock();
const one: Migration = { number: 1, name: 'one', sql: 'create table a (x integer) strict;' };
const two: Migration = { number: 2, name: 'two', sql: 'create table b (x integer) strict;' };
const broken: Migration = {
  number: 3,
  name: 'broken',
  sql: 'create table c (x integer) strict; create nonsense;',
};

const tables = (database: Database): unknown[] =>
  database
    .all("select name from sqlite_schema where type = 'table' and name != 'migrations' order by name")
    .map((row) => row['name']);

function refusal(code: string): (error: unknown) => boolean {
  return (error) => isTrustError(error, code) && error.hint !== undefined;
}

test('migrations are applied once each, in order, and a later start adds the new ones', (t) => {
  const database = new Database(join(temporaryDirectory(t), 'db'));
  t.after(() => database.close());
  migrate(database, [one], clock);
  migrate(database, [one], clock);
  migrate(database, [one, two], clock);
  assert.deepEqual(tables(database), ['a', 'b']);
});

test('a schema of a newer version is refused, and left as it is', (t) => {
  const database = new Database(join(temporaryDirectory(t), 'db'));
  t.after(() => database.close());
  migrate(database, [one, two], clock);
  assert.throws(() => migrate(database, [one], clock), refusal('store.newer_schema'));
  assert.deepEqual(tables(database), ['a', 'b']);
});

test('a migration that was altered after it was applied is refused', (t) => {
  const database = new Database(join(temporaryDirectory(t), 'db'));
  t.after(() => database.close());
  migrate(database, [one], clock);
  assert.throws(
    () => migrate(database, [{ ...one, sql: `${one.sql} ` }, two], clock),
    refusal('store.altered_migration'),
  );
  assert.deepEqual(tables(database), ['a']);
});

test('a migration that comes in before one that was applied is refused', (t) => {
  const database = new Database(join(temporaryDirectory(t), 'db'));
  t.after(() => database.close());
  migrate(database, [two], clock);
  assert.throws(() => migrate(database, [one, two], clock), refusal('store.migration_order'));
});

test('a migration that fails takes back all of that start', (t) => {
  const database = new Database(join(temporaryDirectory(t), 'db'));
  t.after(() => database.close());
  migrate(database, [one], clock);
  assert.throws(() => migrate(database, [one, two, broken], clock));
  assert.deepEqual(tables(database), ['a']);
});

test("the manager's own migrations apply, and each table is strict", (t) => {
  const database = new Database(join(temporaryDirectory(t), 'db'));
  t.after(() => database.close());
  migrate(database, MIGRATIONS, clock);
  const loose = database.all(
    "select name from pragma_table_list where schema = 'main' and type = 'table' and strict = 0 and name not like 'sqlite_%'",
  );
  assert.deepEqual(loose, []);
});

test('hosts from before interfaces had roles go on with what was accepted of them', (t) => {
  const database = new Database(join(temporaryDirectory(t), 'db'));
  t.after(() => database.close());
  migrate(
    database,
    MIGRATIONS.filter(({ number }) => number < 8),
    clock,
  );
  const names = { dns: ['kvm1', 'kvm1.example'], addresses: ['192.0.2.11', '2001:db8::11'] };
  const before = (declared: object) => JSON.stringify({ name: 'kvm1', declared, revisions: {} });
  const insert = (id: string, document: string) =>
    database.run(
      "insert into hosts (id, name, cluster, state, document) values (?, ?, 'default', 'secured', ?)",
      id,
      id,
      document,
    );
  insert('managed', before({ interface: 'eth0', names }));
  insert('watched', before({ interface: null, names: { dns: [], addresses: [] } }));
  migrate(database, MIGRATIONS, clock);
  const after = (id: string) =>
    JSON.parse(String(database.get('select document from hosts where id = ?', id)?.['document']));
  assert.deepEqual(after('managed'), {
    name: 'kvm1',
    declared: {
      interface: 'eth0',
      names,
      interfaces: [{ name: 'eth0', roles: ['management'], names }],
      refused: [],
    },
    revisions: {},
    word: { dns: names.dns, accepted: names.addresses, outside: { dns: [], addresses: [] }, interfaces: {} },
  });
  assert.deepEqual(after('watched').declared.interfaces, []);
  assert.deepEqual(after('watched').word.accepted, []);
});
