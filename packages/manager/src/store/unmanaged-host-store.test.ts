import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testHost } from '../hosts/fixtures.ts';
import { unmanagedAddress } from '../migration/unmanaged-hosts.ts';
import { SqliteAuditLog } from './audit-log.ts';
import { settableClock, temporaryStore } from './fixtures.ts';
import { SqliteHostRepository } from './host-repository.ts';
import { SqliteUnmanagedHostStore } from './unmanaged-host-store.ts';

const OLD = { name: 'old1', cluster: 'rack1', address: '192.0.2.77' };

function stores(t: Parameters<typeof temporaryStore>[0]) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  return {
    unmanaged: new SqliteUnmanagedHostStore(database, clock),
    hosts: new SqliteHostRepository(database, clock),
    audit: new SqliteAuditLog(database, clock),
  };
}

test('a host without an agent is kept, moved and forgotten, and each change is audited once', async (t) => {
  const { unmanaged, audit } = stores(t);
  await unmanaged.put(OLD, 'test');
  const again = await unmanaged.put(OLD, 'test');
  const moved = await unmanaged.put({ ...OLD, address: '192.0.2.78' }, 'test');
  assert.equal(moved.addedAt, again.addedAt);
  assert.deepEqual(await unmanaged.list(), [moved]);
  assert.deepEqual(await unmanaged.find('old1'), moved);
  await unmanaged.remove('old1', 'test');
  assert.equal(await unmanaged.find('old1'), null);
  await assert.rejects(unmanaged.remove('old1', 'test'), { code: 'host.unknown' });
  assert.deepEqual(
    (await audit.list(0, 100)).map(({ action }) => action),
    ['host.add_unmanaged', 'host.add_unmanaged', 'host.remove_unmanaged'],
  );
});

test('one that is known stays in its cluster where none is said, and its settings with it', async (t) => {
  const { unmanaged } = stores(t);
  const named = (name: string, cluster?: string) => unmanaged.put({ ...OLD, name, cluster }, 'test');
  assert.equal((await named('old1', 'rack1')).cluster, 'rack1');
  assert.equal((await named('old1')).cluster, 'rack1');
  assert.equal((await named('old1', 'rack2')).cluster, 'rack2');
  assert.equal((await named('old2')).cluster, 'default');
});

test('no name or address belongs to a host under management and to one without an agent', async (t) => {
  const { unmanaged, hosts } = stores(t);
  await unmanaged.put(OLD, 'test');
  await assert.rejects(hosts.save(testHost('old1')), { code: 'host.name_taken' });
  const kvm1 = testHost('kvm1');
  await hosts.save(kvm1);
  await assert.rejects(
    hosts.update(kvm1.id, (now) => ({ ...now, name: 'old1' })),
    { code: 'host.name_taken' },
  );
  await assert.rejects(unmanaged.put({ ...OLD, name: 'kvm1' }, 'test'), { code: 'host.managed' });
  await assert.rejects(unmanaged.put({ ...OLD, name: 'x', address: '192.0.2.11' }, 'test'), {
    code: 'host.name_conflict',
  });
});

test('an address that leads to the asking host itself, or to nobody, is none of another host', () => {
  for (const address of [
    '127.0.0.1',
    '0.0.0.0',
    '::1',
    '::',
    'fe80::1',
    '224.0.0.1',
    '255.255.255.255',
    '1.2.3',
    'kvm1',
  ])
    assert.throws(() => unmanagedAddress('old1', address), { code: 'host.address' });
  assert.equal(unmanagedAddress('old1', 'FD00::0:1'), 'fd00::1');
  assert.equal(unmanagedAddress('old1', '192.0.2.7'), '192.0.2.7');
});
