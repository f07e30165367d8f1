import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { countParameters, Database, type SqlValue } from './database.ts';
import { temporaryDirectory } from './fixtures.ts';
import { integer } from './row.ts';

function open(path: string): Database {
  const database = new Database(join(path, 'manager.db'));
  database.script('create table if not exists things (id integer primary key, name text not null) strict');
  return database;
}

const count = (database: Database): number =>
  integer(database.get('select count(*) as n from things') ?? {}, 'n');

test('the database, its log and its shared memory are readable to their owner alone', (t) => {
  const path = temporaryDirectory(t);
  const before = process.umask(0o000);
  t.after(() => process.umask(before));
  const database = open(path);
  t.after(() => database.close());
  for (const name of ['manager.db', 'manager.db-wal', 'manager.db-shm']) {
    assert.equal((statSync(join(path, name)).mode & 0o777).toString(8), '600', name);
  }
});

test('values that node:sqlite would shift or take for null are refused before anything is written', (t) => {
  const database = open(temporaryDirectory(t));
  t.after(() => database.close());
  const insert = 'insert into things (id, name) values (?, ?)';
  const wrong: unknown[][] = [
    [new Date(), 'a'],
    [{ id: 1 }, 'a'],
    [[1], 'a'],
    [1, undefined],
    [1, true],
    [Number.NaN, 'a'],
    [1],
    [1, 'a', 2],
    [],
  ];
  for (const parameters of wrong) {
    assert.throws(
      () => database.run(insert, ...(parameters as SqlValue[])),
      (error) => isTrustError(error, 'store.parameter'),
    );
  }
  assert.equal(count(database), 0);
});

test('placeholders are counted outside of literals, names and comments', () => {
  assert.equal(countParameters("select '?' , \"?\" , ? -- ?\n , 'it''s ?', ?"), 2);
});

test('any text and bytes that a column takes come back as they were', (t) => {
  const database = open(temporaryDirectory(t));
  t.after(() => database.close());
  database.script('create table blobs (id integer primary key, name text, body blob) strict');
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }).filter((value) => value.isWellFormed()),
      fc.uint8Array(),
      (name, body) => {
        database.run('insert or replace into blobs (id, name, body) values (1, ?, ?)', name, body);
        const row = database.get('select name, body from blobs');
        assert.equal(row?.['name'], name);
        assert.deepEqual(Buffer.from(row?.['body'] as Uint8Array), Buffer.from(body));
      },
    ),
    { numRuns: 50 },
  );
});

test('a transaction that throws leaves nothing, and one inside another takes back its own part only', (t) => {
  const database = open(temporaryDirectory(t));
  t.after(() => database.close());
  const add = (name: string) => database.run('insert into things (name) values (?)', name);
  assert.throws(() =>
    database.transaction(() => {
      add('a');
      throw new Error('no');
    }),
  );
  assert.equal(count(database), 0);
  database.transaction(() => {
    add('a');
    assert.throws(() =>
      database.transaction(() => {
        add('b');
        throw new Error('no');
      }),
    );
    database.transaction(() => add('c'));
  });
  assert.deepEqual(
    database.all('select name from things order by name').map((row) => row['name']),
    ['a', 'c'],
  );
});

test('an asynchronous function is refused and rolled back', (t) => {
  const database = open(temporaryDirectory(t));
  t.after(() => database.close());
  assert.throws(
    () =>
      database.transaction(async () => {
        database.run('insert into things (name) values (?)', 'a');
      }),
    (error) => isTrustError(error, 'store.async_transaction'),
  );
  assert.equal(count(database), 0);
});

test('a foreign key and a strict column hold', (t) => {
  const database = open(temporaryDirectory(t));
  t.after(() => database.close());
  database.script('create table parts (thing integer not null references things (id)) strict');
  assert.throws(() => database.run('insert into parts (thing) values (?)', 7), hasCode('store.constraint'));
  assert.throws(() => database.run('insert into parts (thing) values (?)', 'x'), hasCode('store.constraint'));
});

test('a database that may not grow says so and how to go on, and works again once it may', (t) => {
  const database = open(temporaryDirectory(t));
  t.after(() => database.close());
  database.all('pragma max_page_count = 4');
  assert.throws(() => fill(database), hasCode('store.full'));
  assert.equal(count(database), 0);
  database.all('pragma max_page_count = 100000');
  database.run('insert into things (name) values (?)', 'a');
  assert.equal(count(database), 1);
});

test('a full disk loses nothing that was stored, and work goes on once there is room', (t) => {
  const path = temporaryDirectory(t);
  if (!mountSmall(path)) {
    t.skip('needs root and a kernel that lets it mount a tmpfs');
    return;
  }
  const database = open(path);
  try {
    database.run('insert into things (name) values (?)', 'kept');
    assert.throws(() => {
      for (let round = 0; round < 100; round++) fill(database);
    }, hasCode('store.full'));
    execFileSync('mount', ['-o', 'remount,size=64m', path]);
    database.run('insert into things (name) values (?)', 'after');
    const names = database.all("select name from things where name in ('kept', 'after') order by id");
    assert.deepEqual(
      names.map((row) => row['name']),
      ['kept', 'after'],
    );
  } finally {
    database.close();
    execFileSync('umount', ['--lazy', path]);
  }
});

test('a file that is no database, and a directory that is missing, are named', (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, 'manager.db'), 'x'.repeat(4096));
  assert.throws(() => new Database(join(path, 'manager.db')), hasCode('store.corrupt'));
  assert.throws(() => new Database(join(path, 'missing', 'manager.db')), hasCode('store.cannot_open'));
});

test('a state directory that may not be written says so', (t) => {
  if (process.getuid?.() === 0) {
    t.skip('root may write everywhere');
    return;
  }
  const path = join(temporaryDirectory(t), 'state');
  mkdirSync(path);
  chmodSync(path, 0o500);
  assert.throws(() => new Database(join(path, 'manager.db')), hasCode('store.cannot_open'));
  assert.equal(existsSync(join(path, 'manager.db')), false);
});

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => isTrustError(error, code) && (code === 'store.constraint' || error.hint !== undefined);
}

function fill(database: Database): void {
  database.transaction(() => {
    for (let index = 0; index < 200; index++) {
      database.run('insert into things (name) values (?)', 'x'.repeat(1000));
    }
  });
}

function mountSmall(path: string): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'virt-trust-test', path], {
      stdio: 'ignore',
    });
    return true;
  } catch {
    return false;
  }
}
