import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Clock } from '@virt-trust/base/clock.ts';
import { DAY, instant, MINUTE } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { settledState, testHost } from '../hosts/fixtures.ts';
import { Settings } from '../settings/settings.ts';
import { SqliteAlarmStore } from '../store/alarm-store.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import type { Database } from '../store/database.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteSettingStore } from '../store/setting-store.ts';
import { AlarmSources } from './alarm-sources.ts';
import { Alarms } from './alarms.ts';
import type { Condition } from './condition.ts';
import { testCondition } from './fixtures.ts';
import { FleetConditions } from './fleet-conditions.ts';

/** Alarms on a store, as a start of the manager composes them; the test evaluates. */
async function composed(t: TestContext, database: Database, clock: Clock) {
  const repository = new SqliteHostRepository(database);
  const settings = new Settings(new SqliteSettingStore(database, clock));
  const store = new SqliteAlarmStore(database, clock);
  const sources = new AlarmSources();
  const fleet = new FleetConditions({
    clock,
    repository,
    settings,
    issuedAt: async () => instant(clock.now() - 90 * DAY),
    outsideOf: () => null,
  });
  repository.onChange((id) => fleet.written(id));
  let changes = 0;
  const alarms = new Alarms({
    store,
    sources,
    fleet,
    settings,
    clock,
    log: silentLog,
    onChange: () => {
      changes += 1;
    },
  });
  t.after(() => alarms.stop());
  const openOnes = async () => {
    await alarms.evaluate();
    const listed = await store.list({ before: null, host: null, cleared: false, limit: 100 });
    return listed.map(({ alarm }) => `${alarm.state} ${alarm.severity} ${alarm.kind}: ${alarm.subject}`);
  };
  return { repository, settings, store, sources, fleet, alarms, openOnes, changes: () => changes };
}

async function temporary(t: TestContext) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  return { clock, database, ...(await composed(t, database, clock)) };
}

test('an alarm goes from raised to acknowledged to cleared, each with its event, and the acknowledgement is audited', async (t) => {
  const { alarms, sources, clock, database, store, openOnes } = await temporary(t);
  let conditions: Condition[] = [testCondition()];
  sources.register({ name: 'renewal', conditions: async () => conditions });
  await alarms.start();
  assert.deepEqual(await openOnes(), ['raised warning renewal-failed: vnc of host host-1']);
  const [record] = await store.list({ before: null, host: 'host-1', cleared: false, limit: 10 });
  const id = record?.alarm.id ?? '';
  assert.deepEqual(alarms.open.ofHost('host-1'), { warning: 1, critical: 0, first: 'it failed' });
  const acknowledged = await alarms.acknowledge(id, 'token:op');
  assert.deepEqual([acknowledged.state, acknowledged.acknowledgedBy], ['acknowledged', 'token:op']);
  // A second time it is as it is.
  assert.equal((await alarms.acknowledge(id, 'token:other')).acknowledgedBy, 'token:op');
  conditions = [];
  sources.changed('renewal');
  assert.equal((await openOnes()).length, 1);
  clock.advance(MINUTE);
  assert.deepEqual(await openOnes(), []);
  const cleared = await alarms.find(id);
  assert.deepEqual([cleared.state, cleared.clearedAt], ['cleared', clock.now()]);
  await assert.rejects(alarms.acknowledge(id, 'token:op'), { code: 'alarm.cleared' });
  await assert.rejects(alarms.acknowledge('00000000-0000-4000-8000-000000000000', 'token:op'), {
    code: 'alarm.unknown',
  });
  const events = await new SqliteEventStore(database, clock).list(0, 10);
  assert.deepEqual(
    events.map((event) => event.kind),
    ['alarm.raised', 'alarm.acknowledged', 'alarm.cleared'],
  );
  const audit = await new SqliteAuditLog(database, clock).list(0, 10);
  assert.deepEqual(
    audit.map(({ actor, action, subject }) => [actor, action, subject]),
    [['token:op', 'alarm.acknowledge', 'vnc of host host-1']],
  );
  assert.deepEqual(alarms.open.ofHost('host-1'), { warning: 0, critical: 0, first: null });
});

test('a source that cannot tell keeps its alarms, and so does a manager that starts anew', async (t) => {
  const { alarms, sources, clock, database, openOnes, store } = await temporary(t);
  let failing = false;
  const source = {
    name: 'renewal',
    conditions: async () => {
      if (failing) throw new Error('away');
      return [testCondition()];
    },
  };
  sources.register(source);
  await alarms.start();
  await openOnes();
  failing = true;
  clock.advance(10 * MINUTE);
  assert.equal((await openOnes()).length, 1);
  await alarms.stop();
  const [before] = await store.list({ before: null, host: null, cleared: true, limit: 10 });
  const second = await composed(t, database, clock);
  second.sources.register(source);
  await second.alarms.start();
  assert.equal((await second.openOnes()).length, 1);
  failing = false;
  clock.advance(MINUTE);
  await second.openOnes();
  const all = await store.list({ before: null, host: null, cleared: true, limit: 10 });
  assert.deepEqual(all, [before]);
});

test('alarms of a source that there is no more are cleared in time', async (t) => {
  const { alarms, sources, clock, database, openOnes } = await temporary(t);
  sources.register({ name: 'former', conditions: async () => [testCondition()] });
  await alarms.start();
  await openOnes();
  await alarms.stop();
  const second = await composed(t, database, clock);
  await second.alarms.start();
  assert.equal((await second.openOnes()).length, 1);
  clock.advance(MINUTE);
  assert.deepEqual(await second.openOnes(), []);
});

test('a host that is written is judged again, and one that is removed has no alarms any more', async (t) => {
  const { alarms, repository, fleet, openOnes } = await temporary(t);
  await alarms.start();
  const host = testHost('host-1', { state: 'failed', reason: 'cannot secure vnc' });
  await repository.save(host);
  fleet.channel(host.id, 'up', '');
  assert.deepEqual(await openOnes(), ['raised critical host-failed: host host-1']);
  await repository.remove(host.id);
  assert.deepEqual(await openOnes(), []);
});

test('a host that was removed while the manager was down has no alarms when it starts', async (t) => {
  const { alarms, repository, fleet, database, clock, openOnes } = await temporary(t);
  await alarms.start();
  const host = testHost('host-1', { state: 'failed', reason: 'cannot secure vnc' });
  await repository.save(host);
  fleet.channel(host.id, 'up', '');
  await openOnes();
  await alarms.stop();
  await new SqliteHostRepository(database).remove(host.id);
  const second = await composed(t, database, clock);
  await second.alarms.start();
  assert.deepEqual(await second.openOnes(), []);
});

test('a manager that just started raises no alarm for hosts that it has not reached yet, and clears none', async (t) => {
  const { alarms, repository, fleet, clock, database, openOnes } = await temporary(t);
  const hosts = ['host-1', 'host-2', 'host-3'].map((name) => testHost(name));
  for (const host of hosts) await repository.save(host);
  await alarms.start();
  for (const host of hosts) fleet.channel(host.id, host.name === 'host-1' ? 'down' : 'up', 'no answer');
  assert.deepEqual(await openOnes(), []);
  clock.advance(5 * MINUTE);
  assert.deepEqual(await openOnes(), ['raised critical host-unreachable: host host-1']);
  await alarms.stop();

  const second = await composed(t, database, clock);
  await second.alarms.start();
  clock.advance(4 * MINUTE);
  assert.deepEqual(await second.openOnes(), ['raised critical host-unreachable: host host-1']);
  for (const host of hosts) second.fleet.channel(host.id, 'down', 'no answer');
  clock.advance(4 * MINUTE);
  assert.equal((await second.openOnes()).length, 1);
  for (const host of hosts) second.fleet.channel(host.id, 'up', '');
  await second.openOnes();
  clock.advance(MINUTE);
  assert.deepEqual(await second.openOnes(), []);
});

test('the expired certificate of a host that is down is an alarm, by what the store has of it', async (t) => {
  const { alarms, repository, clock, openOnes } = await temporary(t);
  const observed = settledState('ours');
  const credentials = observed.credentials.map((credential) => ({
    ...credential,
    notAfter: clock.now() + (credential.service === 'vnc' ? 20 : 100) * DAY,
  }));
  await repository.save(testHost('host-1', { observed: { ...observed, credentials } }));
  await alarms.start();
  assert.deepEqual(await openOnes(), ['raised warning certificate-expiry: vnc of host host-1']);
  clock.advance(21 * DAY);
  assert.deepEqual(await openOnes(), ['raised critical certificate-expiry: vnc of host host-1']);
});

test('a setting that is changed holds at once, for the hosts that it is for', async (t) => {
  const { alarms, repository, clock, settings, openOnes } = await temporary(t);
  const observed = settledState('ours');
  const credentials = observed.credentials.map((credential) => ({
    ...credential,
    notAfter: clock.now() + 30 * DAY,
  }));
  for (const name of ['host-1', 'host-2'])
    await repository.save(testHost(name, { observed: { ...observed, credentials } }));
  await alarms.start();
  assert.deepEqual(await openOnes(), []);
  await settings.put('alarm.expiry_warning', '60d', { scope: 'host', target: 'host-2' }, 'token:op');
  await settings.put('alarm.expiry_warning_percent', 90, { scope: 'host', target: 'host-2' }, 'token:op');
  const open = await openOnes();
  assert.ok(open.length > 0 && open.every((alarm) => alarm.endsWith('of host host-2')), open.join());
});

test('what cannot be kept is kept at the next look', async (t) => {
  const { alarms, sources, database, openOnes } = await temporary(t);
  sources.register({ name: 'renewal', conditions: async () => [testCondition()] });
  await alarms.start();
  database.script(
    "create temp trigger full_disk before insert on alarms begin select raise(abort, 'full'); end",
  );
  await assert.rejects(alarms.evaluate());
  database.script('drop trigger full_disk');
  sources.changed('renewal');
  assert.equal((await openOnes()).length, 1);
});

test('an alarm that was seen to stays so while its host gets another name, and nobody is told anew', async (t) => {
  const { alarms, repository, openOnes, changes } = await temporary(t);
  const host = testHost('host-1', { state: 'failed', reason: 'it failed' });
  await repository.save(host);
  await alarms.start();
  const named = (name: string, state: string) => [`${state} critical host-failed: host ${name}`];
  assert.deepEqual(await openOnes(), named('host-1', 'raised'));
  const [open] = alarms.open.sources().flatMap((source) => alarms.open.ofSource(source));
  await alarms.acknowledge(open?.id ?? '', 'token:op');
  const told = changes();
  await alarms.rereadAfter(() => repository.update(host.id, (now) => ({ ...now, name: 'host-9' })));
  assert.deepEqual(await openOnes(), named('host-9', 'acknowledged'));
  assert.equal((await alarms.find(open?.id ?? '')).host, 'host-9');
  assert.equal(alarms.open.ofHost('host-9').critical, 1);
  assert.equal(alarms.open.ofHost('host-1').critical, 0);
  assert.equal(changes(), told);
});
