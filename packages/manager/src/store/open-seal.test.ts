import assert from 'node:assert/strict';
import { chmodSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { Seal } from '../seal/seal.ts';
import { encodeSealKeys, parseSealKeys, type SealKey, sealKeyOf } from '../seal/seal-key.ts';
import { type SealKeyPlace, sealKeyPlace, writeSealKeys } from '../seal/seal-key-file.ts';
import type { Database } from './database.ts';
import { temporaryDirectory, temporaryStore } from './fixtures.ts';
import { openSeal, rotateSealKey } from './open-seal.ts';
import { bytes } from './row.ts';
import { SEALED_COLUMNS } from './sealed-columns.ts';

const CHECK = { table: 'seal_check', row: '1', column: 'value' };

const sealedCheck = (database: Database): Uint8Array =>
  bytes(database.get('select value from seal_check') ?? {}, 'value');

const keysIn = (place: SealKeyPlace) => parseSealKeys(readFileSync(place.path, 'utf8'), place.path);

test('the first start makes a key for its owner alone, and later starts open with it', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  const seal = openSeal(database, place, systemRandomness);
  assert.equal((statSync(place.path).mode & 0o777).toString(8), '600');
  assert.equal(openSeal(database, place, systemRandomness).keyId, seal.keyId);
});

test('a database without its key, or with the key of another, is refused and no key is made for it', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  openSeal(database, place, systemRandomness);
  rmSync(place.path);
  assert.throws(
    () => openSeal(database, place, systemRandomness),
    (error) => isTrustError(error, 'seal.key_missing'),
  );
  writeSealKeys(place.path, [sealKeyOf(systemRandomness.bytes(32))]);
  assert.throws(
    () => openSeal(database, place, systemRandomness),
    (error) => isTrustError(error, 'seal.wrong_key'),
  );
});

test('a key file that others may read is refused', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  openSeal(database, place, systemRandomness);
  chmodSync(place.path, 0o640);
  assert.throws(
    () => openSeal(database, place, systemRandomness),
    (error) => isTrustError(error, 'seal.key_open') && error.hint?.startsWith('chmod 600') === true,
  );
});

test('rotation seals everything anew, and the old key is gone from the file and opens nothing', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  const before = openSeal(database, place, systemRandomness);
  const after = rotateSealKey(database, place, systemRandomness);
  assert.notEqual(after.keyId, before.keyId);
  assert.deepEqual(
    keysIn(place).map(({ id }) => id),
    [after.keyId],
  );
  assert.equal(Buffer.from(after.open(CHECK, sealedCheck(database))).toString(), 'virt-trust');
  assert.throws(() => before.open(CHECK, sealedCheck(database)), isTrustError);
});

test('a rotation that was killed after the new key was written is finished by the next start', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  openSeal(database, place, systemRandomness);
  const next = sealKeyOf(systemRandomness.bytes(32));
  writeSealKeys(place.path, [...keysIn(place), next]);
  const seal = openSeal(database, place, systemRandomness);
  assert.equal(seal.keyId, next.id);
  assert.deepEqual(keysIn(place), [next]);
  assert.equal(Buffer.from(seal.open(CHECK, sealedCheck(database))).toString(), 'virt-trust');
});

test('a rotation that was killed after everything was sealed anew is finished by the next start', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  openSeal(database, place, systemRandomness);
  const keys = [...keysIn(place), sealKeyOf(systemRandomness.bytes(32))];
  writeSealKeys(place.path, keys);
  const anew = new Seal(keys, systemRandomness).seal(CHECK, Buffer.from('virt-trust'));
  database.run('update seal_check set value = ?', anew);
  assert.equal(openSeal(database, place, systemRandomness).keyId, keys.at(-1)?.id);
  assert.deepEqual(keysIn(place), keys.slice(-1));
});

test('a rotation that fails on the way keeps the old key, which opens everything', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  openSeal(database, place, systemRandomness);
  database.script("create trigger stop before update on seal_check begin select raise(abort, 'no'); end");
  assert.throws(() => rotateSealKey(database, place, systemRandomness));
  assert.equal(keysIn(place).length, 2);
  const seal = new Seal(keysIn(place), systemRandomness);
  assert.equal(Buffer.from(seal.open(CHECK, sealedCheck(database))).toString(), 'virt-trust');
  database.script('drop trigger stop');
  openSeal(database, place, systemRandomness);
  assert.equal(keysIn(place).length, 1);
});

test('a systemd credential is used where there is one, rotated by adding a line, and never written', (t) => {
  const { database, path } = temporaryStore(t);
  const credentials = temporaryDirectory(t);
  const file = join(credentials, 'virt-trust.seal-key');
  const [old, next] = [sealKeyOf(systemRandomness.bytes(32)), sealKeyOf(systemRandomness.bytes(32))];
  // As systemd does: a new file at each start, which nobody may write.
  const bring = (...keys: SealKey[]) => {
    rmSync(file, { force: true });
    writeFileSync(file, encodeSealKeys(keys), { mode: 0o440 });
  };
  bring(old);
  const place = sealKeyPlace(path, credentials);
  assert.deepEqual(place, { kind: 'credential', path: file });
  assert.equal(openSeal(database, place, systemRandomness).keyId, old.id);
  assert.throws(
    () => rotateSealKey(database, place, systemRandomness),
    (error) => isTrustError(error, 'seal.credential'),
  );
  bring(old, next);
  openSeal(database, place, systemRandomness);
  assert.equal(readFileSync(file, 'utf8'), encodeSealKeys([old, next]));
  bring(next);
  assert.equal(openSeal(database, place, systemRandomness).keyId, next.id);
});

test('who has a copy of the database has no seal key', (t) => {
  const { database, path } = temporaryStore(t);
  const place = sealKeyPlace(path, undefined);
  openSeal(database, place, systemRandomness);
  rotateSealKey(database, place, systemRandomness);
  const [key] = keysIn(place);
  assert.ok(key !== undefined);
  for (const name of ['manager.db', 'manager.db-wal', 'manager.db-shm', 'manager.lock']) {
    const content = readFileSync(join(path, name));
    assert.equal(content.includes(key.secret), false, name);
    assert.equal(content.includes(Buffer.from(key.secret).toString('base64url')), false, name);
  }
});

test('every sealed column of the schema is listed with its primary key, so that rotation reaches it', (t) => {
  const { database } = temporaryStore(t);
  const inSchema = database
    .all(
      `select t.name as "table", c.name as "column", k.name as "key"
        from pragma_table_list t
        join pragma_table_info(t.name) c on c.name like 'sealed%'
        join pragma_table_info(t.name) k on k.pk = 1
        where t.schema = 'main' and t.type = 'table'`,
    )
    .map((row) => ({ table: row['table'], key: row['key'], column: row['column'] }));
  assert.ok(inSchema.length > 0);
  const byText = (a: object, b: object) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
  assert.deepEqual(
    SEALED_COLUMNS.filter(({ table }) => table !== 'seal_check').toSorted(byText),
    inSchema.sort(byText),
  );
});
