import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { testHost } from '../hosts/fixtures.ts';
import { SqliteAuditLog } from './audit-log.ts';
import type { Database, SqlValue } from './database.ts';
import { settableClock, temporaryStore } from './fixtures.ts';
import { SqliteHostRepository } from './host-repository.ts';
import { text } from './row.ts';

/** What becomes of each column that says which host something is of, or that a name of a host may be in. */
const COLUMNS: Readonly<Record<string, 'renamed' | 'cascades' | 'by id' | 'history' | 'no host'>> = {
  'hosts.name': 'renamed',
  'certificates.host': 'renamed',
  'certificates.held_by': 'renamed',
  'certified_keys.host': 'renamed',
  'settings.target': 'renamed',
  'revoked_parties.host': 'renamed',
  'alarms.host': 'renamed',
  'alarms.subject': 'renamed',
  'revoked_hosts.host': 'cascades',
  'renewals.host': 'cascades',
  'host_names.host': 'by id',
  'crl_deliveries.host': 'by id',
  'crl_heard.host': 'by id',
  'host_watches.host': 'by id',
  'audit.subject': 'history',
  'events.subject': 'history',
  'jobs.subject': 'history',
  'crls.for_hosts': 'no host',
};
const TELLING = /^(?:(?:.*_)?hosts?(?:_name)?|held_by|target|subject|bearer|source_host|peer|node|machine)$/;

function columnsOf(database: Database): { table: string; column: string; refersTo: string | undefined }[] {
  const tables = database
    .all("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
    .map((row) => text(row, 'name'));
  return tables.flatMap((table) => {
    const references = new Map(
      database.all(`pragma foreign_key_list(${table})`).map((row) => [text(row, 'from'), text(row, 'table')]),
    );
    return database.all(`pragma table_info(${table})`).map((row) => {
      const column = text(row, 'name');
      return { table, column, refersTo: references.get(column) };
    });
  });
}

test('every column of the schema that may hold the name of a host is thought of', (t) => {
  const { database } = temporaryStore(t);
  const telling = columnsOf(database)
    .filter(
      ({ table, column, refersTo }) =>
        refersTo === 'hosts' || TELLING.test(column) || (table === 'hosts' && column === 'name'),
    )
    .map(({ table, column }) => `${table}.${column}`);
  assert.deepEqual(telling.toSorted(), Object.keys(COLUMNS).toSorted(), 'see to it in host-renaming.ts');
});

const AT = 1_800_000_000_000;

/** A store in which all that can be kept of a host is kept of `kvm1`. */
async function fullStore(t: TestContext) {
  const clock = settableClock(AT);
  const { database } = temporaryStore(t, clock);
  const repository = new SqliteHostRepository(database, clock);
  const host = testHost('kvm1');
  await repository.save(host);
  const put = (table: string, row: Readonly<Record<string, SqlValue>>) => {
    const names = Object.keys(row);
    const marks = names.map(() => '?').join(', ');
    database.run(`insert into ${table} (${names.join(', ')}) values (${marks})`, ...Object.values(row));
  };
  const blob = new Uint8Array([1]);
  const authority = { root_certificate: blob, issuing_certificate: blob };
  const sealed = { sealed_root_key: blob, sealed_issuing_key: blob };
  put('authorities', { name: 'control', purpose: 'control', provider: 'internal', ...authority, ...sealed });
  const certificate = { authority: 'control', profile: 'p', not_after: AT + 1, tbs: blob, issued_at: AT };
  put('certificates', { serial_number: '01', host: 'kvm1', service: 'vnc', pin: 'a', ...certificate });
  put('certificates', { serial_number: '02', held_by: 'kvm1', pin: 'b', ...certificate });
  put('certified_keys', { pin: 'a', host: 'kvm1', service: 'vnc' });
  const renewal = { service: 'vnc', serial_number: '01', not_after: AT + 1, due_at: AT };
  put('renewals', { host: 'kvm1', ...renewal });
  put('settings', { scope: 'host', target: 'kvm1', name: 'key.algorithm', value: '"rsa-3072"' });
  put('settings', { scope: 'cluster', target: 'kvm1', name: 'key.algorithm', value: '"rsa-2048"' });
  put('revoked_hosts', { host: 'kvm1', at: AT });
  put('revoked_parties', { at: AT, host: 'kvm1', origin: 'o', subjects: '[]', addresses: '[]' });
  put('crl_deliveries', { host: host.id, authority: 'control', number: 1, next_update: AT, at: AT });
  put('crl_heard', { host: host.id, epoch: 1 });
  put('host_watches', { host: host.id, sequence: 7 });
  const alarm = { severity: 'warning', message: 'm', action: 'a', raised_at: AT, seen: 1 };
  const open = { ...alarm, source: 's', kind: 'expiry', state: 'acknowledged' };
  put('alarms', { id: 'x', subject: 'vnc of host kvm1', host: 'kvm1', ...open });
  put('alarms', { id: 'y', subject: 'vnc of host kvm10', host: 'kvm10', ...open });
  put('events', { at: AT, kind: 'k', subject: 'kvm1', message: 'm' });
  put('jobs', { ...jobOf('done', { host: 'kvm1' }), finished_at: AT });
  await new SqliteAuditLog(database, clock).append([
    { actor: 'a', action: 'host.add', subject: 'kvm1', outcome: 'done', detail: '' },
  ]);
  return { database, repository, host, put };
}

function jobOf(state: string, payload: object, locks: readonly string[] = []): Record<string, SqlValue> {
  const texts = { payload: JSON.stringify(payload), locks: JSON.stringify(locks), steps: '[]' };
  const numbers = { revision: 1, created_at: AT };
  return { id: `job-${state}`, kind: 'migrate', subject: 'kvm1', actor: 'a', state, ...texts, ...numbers };
}

test('a host is renamed in all that is kept of it, by every table; what happened before keeps its old name', async (t) => {
  const { database, repository, host } = await fullStore(t);
  await repository.update(
    host.id,
    (now) => ({ ...now, name: 'kvm9', word: { ...now.word, dns: ['kvm9'] } }),
    (before, after) => [
      {
        actor: 'token:a',
        action: 'host.rename',
        subject: after.name,
        outcome: 'done',
        detail: `was ${before.name}`,
      },
    ],
  );
  const left = columnsOf(database)
    .filter(({ column }) => column !== 'document')
    .flatMap(({ table, column }) =>
      database.all(`select * from ${table} where "${column}" = 'kvm1'`).map(() => `${table}.${column}`),
    );
  // A cluster, and a DNS name that its interface still has, are not the host.
  assert.deepEqual(
    left.toSorted(),
    ['events.subject', 'host_names.name', 'jobs.subject', 'settings.target', 'audit.subject'].toSorted(),
  );
  const count = (sql: string) => database.all(sql).length;
  assert.equal(count("select 1 from certificates where host = 'kvm9' or held_by = 'kvm9'"), 2);
  assert.equal(count("select 1 from certified_keys where host = 'kvm9'"), 1);
  assert.equal(count("select 1 from renewals where host = 'kvm9'"), 1);
  assert.equal(count("select 1 from revoked_hosts where host = 'kvm9'"), 1);
  assert.equal(count("select 1 from revoked_parties where host = 'kvm9'"), 1);
  assert.equal(count("select 1 from settings where scope = 'host' and target = 'kvm9'"), 1);
  assert.equal(count(`select 1 from crl_deliveries where host = '${host.id}'`), 1);
  assert.equal(count(`select 1 from host_watches where host = '${host.id}' and sequence = 7`), 1);
  const subjects = database.all('select subject from alarms order by id').map((row) => text(row, 'subject'));
  assert.deepEqual(subjects, ['vnc of host kvm9', 'vnc of host kvm10']);
  assert.equal((await repository.find('kvm9'))?.name, 'kvm9');
  assert.equal(await repository.find('kvm1'), null);
  assert.equal(count("select 1 from audit where action = 'host.rename' and detail = 'was kvm1'"), 1);
});

for (const [what, payload, locks] of [
  ['holds its lock', {}, ['host:kvm1']],
  ['names it in what it was asked', { order: { vm: 'web', from: 'kvm2', to: 'kvm1' } }, ['vm:web']],
  ['works on every host', { host: null }, ['hosts:all']],
] as const) {
  test(`a host is not renamed while a job that ${what} is not over, and nothing of it is changed`, async (t) => {
    const { database, repository, host, put } = await fullStore(t);
    put('jobs', jobOf('running', payload, locks));
    await assert.rejects(
      repository.update(host.id, (now) => ({ ...now, name: 'kvm9' })),
      { code: 'host.busy', hint: /virt-trust job watch job-running/ },
    );
    assert.equal(database.all("select 1 from certificates where host = 'kvm1'").length, 1);
    assert.equal((await repository.find('kvm1'))?.name, 'kvm1');
  });
}

test('a job that works on another host is no hindrance', async (t) => {
  const { repository, host, put } = await fullStore(t);
  put('jobs', jobOf('queued', { host: 'kvm10' }, ['host:kvm10']));
  await repository.update(host.id, (now) => ({ ...now, name: 'kvm9' }));
  assert.notEqual(await repository.find('kvm9'), null);
});

test("SECURITY: the name of another host, or one that another's certificates have, is not taken, nor its settings", async (t) => {
  const { database, repository, host, put } = await fullStore(t);
  await repository.save(testHost('kvm2'));
  put('settings', { scope: 'host', target: 'kvm2', name: 'key.algorithm', value: '"ecdsa-p384"' });
  const other = testHost('kvm3');
  const names = { dns: ['kvm3', 'web.example'], addresses: [] };
  await repository.save({ ...other, declared: { ...other.declared, names } });
  for (const name of ['kvm2', 'web.example', 'Web.Example']) {
    await assert.rejects(
      repository.update(host.id, (now) => ({ ...now, name })),
      { code: 'host.name_conflict' },
      name,
    );
  }
  assert.equal((await repository.find('kvm1'))?.name, 'kvm1');
  assert.equal(database.all("select 1 from settings where scope = 'host' and target = 'kvm2'").length, 1);
});

test('settings that were left by a host that was removed do not come over the one that gets its name', async (t) => {
  const { database, repository, host, put } = await fullStore(t);
  put('settings', { scope: 'host', target: 'kvm9', name: 'key.algorithm', value: '"ecdsa-p384"' });
  await repository.update(host.id, (now) => ({ ...now, name: 'kvm9' }));
  const rows = database.all("select value from settings where scope = 'host' and target = 'kvm9'");
  assert.deepEqual(
    rows.map((row) => text(row, 'value')),
    ['"rsa-3072"'],
  );
});
