import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { EventLog } from '../events/event-log.ts';
import { ManagerIdentity } from '../hosts/manager-identity.ts';
import { temporaryManager } from '../http/fixtures.ts';
import { over } from '../jobs/fixtures.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { secretsDomain } from '../secrets-domain.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import type { Database } from '../store/database.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { temporaryDirectory } from '../store/fixtures.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import { SqliteManagerIdentityStore } from '../store/manager-identity-store.ts';
import { openSeal } from '../store/open-seal.ts';
import { openStore } from '../store/open-store.ts';
import { SqliteSealedValues } from '../store/sealed-values.ts';
import { rotationJob } from './rotation.ts';
import type { Seal } from './seal.ts';
import { encodeSealKeys, parseSealKeys, sealKeyOf } from './seal-key.ts';
import { sealKeyPlace } from './seal-key-file.ts';

const idsIn = (directory: string): string[] => {
  const path = join(directory, 'seal.key');
  return parseSealKeys(readFileSync(path, 'utf8'), path).map(({ id }) => id);
};

const privateKeysIn = async (database: Database, seal: Seal): Promise<(string | undefined)[]> => {
  const identities = new SqliteManagerIdentityStore(database, seal);
  return [(await identities.get('current'))?.privateKeyPem, (await identities.get('next'))?.privateKeyPem];
};

/** A state directory with sealed values in it; what they say, and the key that they are under. */
async function withSecrets(directory: string) {
  const { database, close } = openStore(directory, systemClock);
  const seal = openSeal(database, sealKeyPlace(directory, undefined), systemRandomness);
  await ManagerIdentity.open(new SqliteManagerIdentityStore(database, seal), systemRandomness);
  const secrets = await privateKeysIn(database, seal);
  close();
  return { secrets, key: seal.keyId };
}

/** Runs the child until it says that it is there, and kills it there. */
async function killAt(t: TestContext, directory: string, where: string): Promise<void> {
  const program = fileURLToPath(new URL('crash-rotation.ts', import.meta.url));
  const child = spawn(process.execPath, [program, directory, where], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error(`the child ended before ${where}`))),
  ]);
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

const POINTS = [
  'remembered',
  'key made',
  'batch 1',
  'batch 2',
  'batch 3',
  'all sealed',
  'about to destroy',
  'destroyed',
];

for (const point of POINTS) {
  test(`a manager that is killed in a rotation, ${point}, loses nothing, and its next start ends that rotation`, async (t) => {
    const directory = temporaryDirectory(t);
    const before = await withSecrets(directory);
    await killAt(t, directory, point);
    const during = idsIn(directory);
    const { database, close } = openStore(directory, systemClock);
    t.after(close);
    const place = sealKeyPlace(directory, undefined);
    const seal = openSeal(database, place, systemRandomness);
    assert.deepEqual(await privateKeysIn(database, seal), before.secrets);

    const values = new SqliteSealedValues(database);
    const audit = new SqliteAuditLog(database, systemClock);
    const runner = new JobRunner({
      store: new SqliteJobStore(database, systemClock),
      events: new EventLog(new SqliteEventStore(database, systemClock)),
      clock: systemClock,
      log: silentLog,
      concurrency: 1,
    });
    runner.register(rotationJob({ values, seal, place, randomness: systemRandomness, audit }));
    await runner.start();
    t.after(() => runner.close());
    const [record] = await runner.list(undefined, 10);
    assert.equal((await over(runner, record?.job.id ?? '')).state, 'done');

    assert.deepEqual(idsIn(directory), [seal.keyId]);
    assert.notEqual(seal.keyId, before.key);
    if (point !== 'remembered') assert.equal(seal.keyId, during.at(-1), 'rotated once, not twice');
    assert.equal(values.left(seal.keyId), 0);
    assert.deepEqual(values.verify(seal), [seal.keyId]);
    assert.deepEqual(await privateKeysIn(database, seal), before.secrets);
    const entries = await audit.list(0, 10);
    assert.deepEqual(
      entries
        .filter(({ action }) => action === 'seal.rotate')
        .map(({ action, subject }) => [action, subject]),
      [['seal.rotate', seal.keyId]],
    );
  });
}

test('a rotation while the manager serves: what is written meanwhile is under the new key, and the old key is destroyed', async (t) => {
  const manager = await temporaryManager(t, [secretsDomain]);
  const [before] = idsIn(manager.stateDirectory);
  const { id } = (await manager.call('POST', '/api/v1/manager/seal-key')).json();
  await manager.call('GET', `/api/v1/jobs/${id}/events`);
  const job = (await manager.call('GET', `/api/v1/jobs/${id}`)).json();
  assert.deepEqual([job['state'], job['error']], ['done', null]);
  const [after, ...more] = idsIn(manager.stateDirectory);
  assert.deepEqual(more, []);
  assert.notEqual(after, before);
  assert.match(String(job['result']), new RegExp(`under key ${after}`));
  const sealedBefore = Buffer.concat([Buffer.of(1), Buffer.from(before ?? '', 'hex')]);
  for (const file of ['manager.db', 'manager.db-wal'])
    assert.equal(readFileSync(join(manager.stateDirectory, file)).includes(sealedBefore), false, file);
});

test('a reader of the database holds up the end of a rotation, not the manager, and both keys stay until then', async (t) => {
  const directory = temporaryDirectory(t);
  await withSecrets(directory);
  const { database, close } = openStore(directory, systemClock);
  t.after(close);
  const place = sealKeyPlace(directory, undefined);
  const seal = openSeal(database, place, systemRandomness);
  const reader = new DatabaseSync(join(directory, 'manager.db'), { readOnly: true });
  t.after(() => reader.close());
  reader.exec('begin; select count(*) from seal_check');
  const own = new SqliteSealedValues(database);
  const held = Promise.withResolvers<void>();
  const values = Object.assign(Object.create(own) as SqliteSealedValues, {
    sealAnew: (used: Seal, limit: number) => own.sealAnew(used, limit),
    left: (keyId: string) => own.left(keyId),
    flushLog: () => {
      const empty = own.flushLog();
      if (!empty) held.resolve();
      return empty;
    },
  });
  const audit = new SqliteAuditLog(database, systemClock);
  const runner = new JobRunner({
    store: new SqliteJobStore(database, systemClock),
    events: new EventLog(new SqliteEventStore(database, systemClock)),
    clock: systemClock,
    log: silentLog,
    concurrency: 1,
  });
  const rotation = rotationJob({ values, seal, place, randomness: systemRandomness, audit });
  runner.register(rotation);
  await runner.start();
  t.after(() => runner.close());
  const { id } = await runner.enqueue(rotation, { subject: 'seal key', payload: {}, actor: 'token:a' });
  await held.promise;
  assert.equal(idsIn(directory).length, 2);
  reader.exec('commit');
  assert.equal((await over(runner, id)).state, 'done');
  assert.equal(idsIn(directory).length, 1);
});

test('a key that systemd brings is not rotated by us, and the way to do it is told', async (t) => {
  const credentialsDirectory = temporaryDirectory(t);
  const key = encodeSealKeys([sealKeyOf(systemRandomness.bytes(32))]);
  writeFileSync(join(credentialsDirectory, 'virt-trust.seal-key'), key, { mode: 0o400 });
  const manager = await temporaryManager(t, [secretsDomain], { credentialsDirectory });
  const refused = (await manager.call('POST', '/api/v1/manager/seal-key')).problem();
  assert.equal(refused.code, 'seal.credential');
  assert.match(refused.hint ?? '', /append a line .* restart/);
});
