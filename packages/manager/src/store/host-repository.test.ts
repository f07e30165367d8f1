import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NOTHING_FOUND, settledState, testHost, testInventory } from '../hosts/fixtures.ts';
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
