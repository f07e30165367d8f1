import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import fc from 'fast-check';
import { testHost } from '../hosts/fixtures.ts';
import { ManagerIdentity } from '../hosts/manager-identity.ts';
import { temporaryManager } from '../http/fixtures.ts';
import { rotationJob } from '../seal/rotation.ts';
import { encodeSealKeys, parseSealKeys, sealKeyOf } from '../seal/seal-key.ts';
import { sealKeyPlace } from '../seal/seal-key-file.ts';
import { appendAudit } from './audit-log.ts';
import { backUp } from './backup.ts';
import { readPrefix } from './backup-file.ts';
import { temporaryDirectory } from './fixtures.ts';
import { SqliteHostRepository } from './host-repository.ts';
import { SqliteManagerIdentityStore } from './manager-identity-store.ts';
import { openSeal } from './open-seal.ts';
import { openStore } from './open-store.ts';
import { RESTORING, restore } from './restore.ts';
import { verifyStore } from './verify-store.ts';

const ports = { clock: systemClock, randomness: systemRandomness };
const code = (wanted: string) => (error: unknown) => isTrustError(error, wanted);

/** A state directory with a host, secrets and an audit log in it. */
async function madeStore(t: TestContext) {
  const stateDirectory = temporaryDirectory(t);
  const { database, close } = openStore(stateDirectory, systemClock);
  const seal = openSeal(database, sealKeyPlace(stateDirectory, undefined), systemRandomness);
  const identity = await ManagerIdentity.open(
    new SqliteManagerIdentityStore(database, seal),
    systemRandomness,
  );
  await new SqliteHostRepository(database).save(testHost('host-1'));
  const draft = { actor: 'a', action: 'b', subject: 'c', outcome: 'done', detail: '' } as const;
  appendAudit(database, systemClock, [draft, draft]);
  return { stateDirectory, database, close, pin: identity.current.pin };
}

async function backedUp(t: TestContext) {
  const made = await madeStore(t);
  const directory = temporaryDirectory(t);
  const { path, header } = await backUp({
    stateDirectory: made.stateDirectory,
    to: join(directory, 'backup'),
    sealKeyTo: join(directory, 'key'),
    ...ports,
  });
  return { ...made, directory, path, header, sealKeyFile: join(directory, 'key') };
}

const otherDisk = existsSync('/dev/shm') && statSync('/dev/shm').dev !== statSync(tmpdir()).dev;
test('the seal key goes to another disk than the backup', {
  skip: !otherDisk && 'there is none',
}, async (t) => {
  const { stateDirectory } = await madeStore(t);
  const away = mkdtempSync('/dev/shm/virt-trust-key-');
  t.after(() => rmSync(away, { recursive: true }));
  const [to, sealKeyTo] = [join(temporaryDirectory(t), 'backup'), join(away, 'key')];
  await backUp({ stateDirectory, to, sealKeyTo, ...ports });
  assert.equal(statSync(sealKeyTo).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(away), ['key']);
  const restored = join(temporaryDirectory(t), 'restored');
  assert.equal(
    (await restore({ from: to, stateDirectory: restored, sealKeyFile: sealKeyTo, ...ports })).hosts,
    1,
  );
});

/** Takes the backup's place with other bytes. */
function altered(path: string, change: (bytes: Buffer) => Buffer): string {
  writeFileSync(`${path}.altered`, change(readFileSync(path)));
  return `${path}.altered`;
}

test('a backup of a manager that serves is restored into an empty directory: tokens, settings and audit log are there', async (t) => {
  const manager = await temporaryManager(t);
  await manager.call('PUT', '/api/v1/settings/organization', { body: { value: 'Example' } });
  const directory = temporaryDirectory(t);
  const [to, sealKeyTo] = [join(directory, 'backup'), join(directory, 'key')];
  await backUp({ stateDirectory: manager.stateDirectory, to, sealKeyTo, ...ports });
  await manager.call('PUT', '/api/v1/settings/organization', { body: { value: 'Later' } });
  await manager.close();
  const stateDirectory = join(directory, 'restored');
  await restore({ from: to, stateDirectory, sealKeyFile: sealKeyTo, ...ports });
  const again = await temporaryManager(t, [], { stateDirectory });
  assert.equal(again.initialToken, undefined);
  const options = { token: manager.token };
  assert.match(
    (await again.call('GET', '/api/v1/settings', options)).text,
    /"name":"organization","value":"Example"/,
  );
  const chain = (await again.call('GET', '/api/v1/audit/verification', options)).json();
  assert.equal(chain['intact'], true);
  assert.match((await again.call('GET', '/api/v1/audit', options)).text, /manager\.restore/);
});

test('a backup is for its owner alone, holds no seal key, and overwrites nothing', async (t) => {
  const { path, directory, stateDirectory, sealKeyFile } = await backedUp(t);
  assert.deepEqual(readdirSync(directory).sort(), ['backup', 'key']);
  for (const file of [path, sealKeyFile]) assert.equal((statSync(file).mode & 0o777).toString(8), '600');
  const bytes = readFileSync(path);
  for (const { secret } of parseSealKeys(readFileSync(join(stateDirectory, 'seal.key'), 'utf8'), 'f')) {
    assert.equal(bytes.includes(secret), false);
    assert.equal(bytes.includes(Buffer.from(secret).toString('base64url')), false);
  }
  assert.equal(bytes.includes('PRIVATE KEY'), false);
  await assert.rejects(backUp({ stateDirectory, to: path, ...ports }), code('backup.exists'));
  await assert.rejects(
    backUp({ stateDirectory, to: join(directory, 'other'), sealKeyTo: sealKeyFile, ...ports }),
    code('backup.exists'),
  );
  assert.deepEqual(readFileSync(path), bytes);
  assert.deepEqual(readdirSync(directory).sort(), ['backup', 'key']);
});

test('a restored store has a higher epoch each time, its jobs of then are cancelled, and its keys open', async (t) => {
  const { path, sealKeyFile, directory, pin, database } = await backedUp(t);
  assert.equal(database.get("select value from manager_numbers where name = 'epoch'")?.['value'], 1);
  const first = join(directory, 'first');
  const done = await restore({ from: path, stateDirectory: first, sealKeyFile, ...ports });
  assert.ok(done.epoch > 1);
  assert.equal(done.hosts, 1);
  const later = {
    ...ports,
    clock: { now: () => (systemClock.now() + 1000) as ReturnType<typeof systemClock.now> },
  };
  const second = await restore({
    from: path,
    stateDirectory: join(directory, 'second'),
    sealKeyFile,
    ...later,
  });
  assert.ok(second.epoch > done.epoch);
  const store = openStore(first, systemClock);
  t.after(() => store.close());
  const seal = openSeal(store.database, sealKeyPlace(first, undefined), systemRandomness);
  const identity = await ManagerIdentity.open(
    new SqliteManagerIdentityStore(store.database, seal),
    systemRandomness,
  );
  assert.deepEqual([identity.current.pin, identity.epoch, identity.recovery], [pin, done.epoch, 'looking']);
});

test('work that was under way when the backup was made does not go on by itself', async (t) => {
  const { database, stateDirectory } = await madeStore(t);
  database.run(
    `insert into jobs (id, kind, subject, locks, payload, actor, state, steps, revision, created_at)
      values ('00000000-0000-4000-8000-000000000000', 'host-remove', 'host-1', '["host:host-1"]', '{}', 'a', 'running', '[]', 1, 0)`,
  );
  const directory = temporaryDirectory(t);
  const [to, sealKeyFile] = [join(directory, 'b'), join(stateDirectory, 'seal.key')];
  await backUp({ stateDirectory, to, ...ports });
  const target = join(directory, 'restored');
  assert.equal((await restore({ from: to, stateDirectory: target, sealKeyFile, ...ports })).jobsCancelled, 1);
  const store = openStore(target, systemClock);
  t.after(() => store.close());
  const [job] = store.database.all('select state, error from jobs');
  assert.equal(job?.['state'], 'cancelled');
  assert.match(String(job?.['error']), /job\.restored/);
});

test('a backup with any byte altered or cut is refused, and nothing of it is left to start on', async (t) => {
  const { path, sealKeyFile, directory } = await backedUp(t);
  const { length } = readFileSync(path);
  const stateDirectory = join(directory, 'restored');
  const refuse = async (from: string) => {
    await assert.rejects(restore({ from, stateDirectory, sealKeyFile, ...ports }), isTrustError);
    assert.equal(existsSync(join(stateDirectory, 'manager.db')), false);
  };
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(fc.nat(length - 1), fc.nat(1000)),
      fc.integer({ min: 1, max: 255 }),
      async (at, bits) => {
        await refuse(
          altered(path, (bytes) => {
            bytes[at] = (bytes[at] ?? 0) ^ bits;
            return bytes;
          }),
        );
      },
    ),
    { numRuns: 40 },
  );
  for (const cut of [0, 10, 300, length - 1]) await refuse(altered(path, (bytes) => bytes.subarray(0, cut)));
  await refuse(altered(path, (bytes) => Buffer.concat([bytes, Buffer.of(0)])));
  await restore({ from: path, stateDirectory, sealKeyFile, ...ports });
});

test('who has a backup and no seal key can not put a token of his own into it', async (t) => {
  const { path, sealKeyFile, directory, header } = await backedUp(t);
  const forged = altered(path, (bytes) => {
    const { length } = readPrefix(bytes, path);
    const other = { ...header, madeAt: header.madeAt + 1 };
    const [magic, , tag] = bytes.toString('latin1', 0, length).split('\n');
    return Buffer.concat([
      Buffer.from(`${magic}\n${JSON.stringify(other)}\n${tag}\n`),
      bytes.subarray(length),
    ]);
  });
  await assert.rejects(
    restore({ from: forged, stateDirectory: join(directory, 'r'), sealKeyFile, ...ports }),
    code('backup.altered'),
  );
});

test('the head of a backup is read within bounds, whatever it holds', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.string().map((text) => Buffer.from(`virt-trust backup 1\n${text}`)),
      ),
      (bytes) => {
        assert.throws(() => readPrefix(bytes, 'f'), code('backup.malformed'));
      },
    ),
  );
});

test('a restore without the key, or with the key of another, names the key that it takes', async (t) => {
  const { path, header, directory } = await backedUp(t);
  const stateDirectory = join(directory, 'restored');
  const names = (wanted: string) => (error: unknown) =>
    isTrustError(error, wanted) && `${error.message} ${error.hint}`.includes(header.sealKeys[0] ?? '?');
  await assert.rejects(restore({ from: path, stateDirectory, ...ports }), names('restore.no_key'));
  const other = join(directory, 'other');
  writeFileSync(other, encodeSealKeys([sealKeyOf(systemRandomness.bytes(32))]), { mode: 0o600 });
  await assert.rejects(
    restore({ from: path, stateDirectory, sealKeyFile: other, ...ports }),
    names('restore.wrong_key'),
  );
});

test('a directory with something in it is refused and stays as it is; a key that was brought there is used', async (t) => {
  const { path, sealKeyFile, directory, stateDirectory, close } = await backedUp(t);
  close();
  const used = readFileSync(join(stateDirectory, 'manager.db'));
  await assert.rejects(
    restore({ from: path, stateDirectory, sealKeyFile, ...ports }),
    code('restore.not_empty'),
  );
  assert.deepEqual(readFileSync(join(stateDirectory, 'manager.db')), used);
  const target = join(directory, 'brought');
  mkdirSync(target, { mode: 0o700 });
  copyFileSync(sealKeyFile, join(target, 'seal.key'));
  await restore({ from: path, stateDirectory: target, ...ports });
  assert.ok(existsSync(join(target, 'manager.db')));
});

test('a manager that was started and has done nothing is empty, and takes the key of the backup in place of its own', async (t) => {
  const { path, sealKeyFile, directory, pin } = await backedUp(t);
  const stateDirectory = join(directory, 'fresh');
  const fresh = openStore(stateDirectory, systemClock);
  openSeal(fresh.database, sealKeyPlace(stateDirectory, undefined), systemRandomness);
  await assert.rejects(restore({ from: path, stateDirectory, sealKeyFile, ...ports }), code('store.locked'));
  fresh.close();
  await restore({ from: path, stateDirectory, sealKeyFile, ...ports });
  assert.equal(readFileSync(join(stateDirectory, 'seal.key'), 'utf8'), readFileSync(sealKeyFile, 'utf8'));
  const store = openStore(stateDirectory, systemClock);
  t.after(() => store.close());
  const seal = openSeal(store.database, sealKeyPlace(stateDirectory, undefined), systemRandomness);
  assert.equal((await new SqliteManagerIdentityStore(store.database, seal).get('current'))?.pin, pin);
});

test('a restore that was killed before its end is no store: a start says so, and the next restore goes through', async (t) => {
  const { path, sealKeyFile, directory } = await backedUp(t);
  const stateDirectory = join(directory, 'restored');
  mkdirSync(stateDirectory, { mode: 0o700 });
  for (const suffix of ['', '-wal', '-shm'])
    writeFileSync(join(stateDirectory, `${RESTORING}${suffix}`), 'half');
  copyFileSync(sealKeyFile, join(stateDirectory, 'seal.key'));
  assert.throws(() => openStore(stateDirectory, systemClock), code('store.half_restored'));
  assert.equal(existsSync(join(stateDirectory, 'manager.db')), false);
  await restore({ from: path, stateDirectory, ...ports });
  assert.deepEqual(
    readdirSync(stateDirectory).filter((name) => name.includes('restoring')),
    [],
  );
  openStore(stateDirectory, systemClock).close();
});

test('a backup by a newer program, and one whose audit log was altered, are refused', async (t) => {
  const { database, stateDirectory } = await madeStore(t);
  const directory = temporaryDirectory(t);
  const sealKeyFile = join(stateDirectory, 'seal.key');
  database.run("insert into migrations (number, name, checksum, applied_at) values (9999, 'later', 'x', 0)");
  await backUp({ stateDirectory, to: join(directory, 'newer'), ...ports });
  await assert.rejects(
    restore({ from: join(directory, 'newer'), stateDirectory: join(directory, 'r'), sealKeyFile, ...ports }),
    code('store.newer_schema'),
  );
  const raw = new DatabaseSync(join(stateDirectory, 'manager.db'));
  raw.exec("drop trigger audit_no_update; update audit set actor = 'x' where sequence = 1");
  raw.close();
  assert.throws(() => verifyStore(database, 'it'), code('store.audit_altered'));
  await assert.rejects(
    backUp({ stateDirectory, to: join(directory, 'altered'), ...ports }),
    code('store.audit_altered'),
  );
  assert.deepEqual(
    readdirSync(directory).filter((name) => name !== 'newer' && name !== 'r'),
    [],
  );
});

test('a backup in the middle of a rotation of the seal key takes both keys, and is restored with both', async (t) => {
  const { database, stateDirectory } = await madeStore(t);
  const directory = temporaryDirectory(t);
  const place = sealKeyPlace(stateDirectory, undefined);
  const seal = openSeal(database, place, systemRandomness);
  const to = join(directory, 'backup');
  const sealKeyTo = join(directory, 'key');
  const stopped = rotationJob({
    values: {
      sealAnew: () => 0,
      left: () => 0,
      flushLog: () => {
        throw new Error('stopped here');
      },
    },
    seal,
    place,
    randomness: systemRandomness,
    audit: { append: async () => {}, list: async () => [] },
  });
  const memory = new Map<string, unknown>();
  await assert.rejects(
    stopped.run(
      {},
      {
        id: 'j',
        subject: '',
        actor: 'a',
        signal: new AbortController().signal,
        step: (_, run) => run(() => {}),
        progress: () => {},
        plan: () => {},
        migration: () => {},
        remember: async (key, value) => void memory.set(key, value),
        warn: () => {},
        recall: async (key) => memory.get(key) as never,
      },
    ),
    /stopped here/,
  );
  const { header } = await backUp({ stateDirectory, to, sealKeyTo, ...ports });
  assert.notEqual(header.authenticatedBy, header.sealKeys[0]);
  await restore({ from: to, stateDirectory: join(directory, 'r'), sealKeyFile: sealKeyTo, ...ports });
});
