import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { parseHostId } from '@virt-trust/base/host-id.ts';
import { declaredOn, NOTHING_FOUND, settledState, testHost, testInventory } from '../hosts/fixtures.ts';
import { SqliteAuditLog } from './audit-log.ts';
import { temporaryStore } from './fixtures.ts';
import { SqliteHostRepository } from './host-repository.ts';

test('writers who change different fields of a host at the same time lose nothing of each other', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const host = testHost('host-1', { observed: null, grantedGates: [], desiredNumber: 0 });
  await repository.save(host);
  await Promise.all([
    repository.update(host.id, (now) => ({ ...now, observed: settledState('ours') })),
    repository.update(host.id, (now) => ({ ...now, grantedGates: [...now.grantedGates, 'serve'] })),
    repository.update(host.id, (now) => ({ ...now, inventory: testInventory({ hostName: 'anew' }) })),
    ...Array.from({ length: 20 }, () =>
      repository.update(host.id, (now) => ({ ...now, desiredNumber: now.desiredNumber + 1 })),
    ),
  ]);
  const after = await repository.find('host-1');
  assert.equal(after?.desiredNumber, 20);
  assert.equal(after?.inventory?.hostName, 'anew');
  assert.deepEqual(after?.grantedGates, ['serve']);
  assert.equal(after?.observed?.credentials.length, settledState('ours').credentials.length);
});

test('what is said of a host that is written whole is audited with it, and not where it is not written', async (t) => {
  const { database } = temporaryStore(t);
  const repository = new SqliteHostRepository(database);
  const audited = async () => (await new SqliteAuditLog(database, systemClock).list(0, 10)).length;
  const said = {
    actor: 'a',
    action: 'host.cluster',
    subject: 'host-1',
    outcome: 'done',
    detail: '',
  } as const;
  await repository.save(testHost('host-1'), [said]);
  assert.equal(await audited(), 1);
  const another = testHost('host-1', { id: parseHostId(randomUUID()) });
  await assert.rejects(repository.save(another, [said]));
  assert.equal(await audited(), 1);
});

test('a host that was removed meanwhile is not brought back by a change', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const host = testHost('host-1');
  await repository.save(host);
  await repository.remove(host.id);
  await assert.rejects(
    repository.update(host.id, (now) => ({ ...now, state: 'failed' })),
    { code: 'host.unknown' },
  );
  assert.equal(await repository.find('host-1'), null);
});

test('who follows hosts is told of what was written, and of nothing else', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const host = testHost('host-1');
  await repository.save(host);
  const told: string[] = [];
  repository.onChange((id) => told.push(id));
  await repository.update(host.id, (now) => now);
  assert.deepEqual(told, []);
  await repository.update(host.id, (now) => ({ ...now, state: 'failed' }));
  assert.deepEqual(told, [host.id]);
});

test('a change cannot take another host of its names, and a change that throws changes nothing', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const [one, two] = [testHost('host-1'), testHost('host-2')];
  await repository.save(one);
  await repository.save(two);
  await assert.rejects(
    repository.update(two.id, (now) => ({ ...now, found: NOTHING_FOUND, declared: one.declared })),
    { code: 'host.name_conflict' },
  );
  assert.deepEqual((await repository.find('host-2'))?.declared, two.declared);
  // Its claim stands as well: nobody else gets its name.
  await assert.rejects(
    repository.update(one.id, (now) => ({ ...now, declared: two.declared })),
    { code: 'host.name_conflict' },
  );
});

test('addresses are claimed whatever their spelling, and names whatever their case', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const one = testHost('host-1', {
    declared: declaredOn('eth0', { dns: ['a.example'], addresses: ['fd00::1'] }),
  });
  const two = testHost('host-2');
  await repository.save(one);
  await repository.save(two);
  for (const names of [
    { dns: [], addresses: ['fd00:0:0::0:1'] },
    { dns: [], addresses: ['FD00::1'] },
    { dns: ['A.Example'], addresses: [] },
    { dns: ['HOST-1'], addresses: [] },
  ]) {
    await assert.rejects(
      repository.update(two.id, (now) => ({ ...now, declared: declaredOn('eth0', names) })),
      { code: 'host.name_conflict' },
      JSON.stringify(names),
    );
  }
  const asked = ['fd00::0001', 'A.EXAMPLE.', 'host-1', 'b.example', '192.0.2.12'];
  assert.deepEqual([...(await repository.holders(asked, two.id))].sort(), [
    ['a.example', 'host-1'],
    ['fd00::1', 'host-1'],
    ['host-1', 'host-1'],
  ]);
  assert.deepEqual([...(await repository.holders(asked, one.id))], [['192.0.2.12', 'host-2']]);
});

test('an address that one host lets go can be claimed by another, in the change that sees it free', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const [one, two] = [testHost('host-1'), testHost('host-2')];
  await repository.save(one);
  await repository.save(two);
  const moved = one.declared.names.addresses[0] ?? '';
  const seen: (string | null)[] = [];
  const take = () =>
    repository.update(two.id, (now, { holderOf }) => {
      seen.push(holderOf(moved));
      if (holderOf(moved) !== null) return now;
      return { ...now, declared: declaredOn('eth0', { dns: ['host-2'], addresses: [moved] }) };
    });
  assert.deepEqual((await take()).declared, two.declared);
  await repository.update(one.id, (now) => ({
    ...now,
    declared: declaredOn('eth0', { dns: ['host-1'], addresses: [] }),
  }));
  assert.deepEqual((await take()).declared.names.addresses, [moved]);
  assert.deepEqual(seen, ['host-1', null]);
  assert.deepEqual([...(await repository.holders([moved], one.id))], [[moved, 'host-2']]);
});
