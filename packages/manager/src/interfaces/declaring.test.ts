import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settledState, testInterface } from '../hosts/fixtures.ts';
import { temporaryDirectory } from '../store/fixtures.ts';
import { declaringFleet } from './fixture-fleet.ts';

const ADDRESS = '10.0.2.50';

test('SECURITY: a host that lets an address go and does not say what it serves keeps no certificate for it', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  const { id } = await fleet.add('kvm1', '192.0.2.11');
  await fleet.add('kvm2', '192.0.2.12');
  await fleet.report('kvm1', testInterface('eth2', [ADDRESS]));
  await fleet.settle();
  const had = (await fleet.hostOf('kvm1')).observed?.credentials[0]?.serialNumber ?? '';
  await fleet.repository.update(id, (now) => ({
    ...now,
    observed: { ...(now.observed ?? settledState('none')), credentials: [] },
  }));
  await fleet.report('kvm1');
  await fleet.report('kvm2', testInterface('eth2', [ADDRESS]));
  await fleet.settle();
  assert.ok((await fleet.served('kvm2')).includes(ADDRESS));
  const record = await fleet.certificates.find(had as never);
  assert.equal(record?.revocation?.reason, 'affiliationChanged');
  assert.equal(await fleet.declaring.isOutdated(await fleet.hostOf('kvm1')), false);
});

test('SECURITY: an address that an administrator releases is released, also of a host that reports nothing at all', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  const { id } = await fleet.add('kvm1', '192.0.2.11');
  await fleet.report('kvm1', testInterface('eth2', [ADDRESS]));
  await fleet.settle();
  await fleet.repository.update(id, (now) => ({
    ...now,
    inventory: null,
    observed: now.observed === null ? null : { ...now.observed, network: { hostName: '', interfaces: [] } },
    word: { ...now.word, released: [ADDRESS] },
  }));
  const { declared } = await fleet.declaring.redeclare(id, 'token:admin');
  assert.deepEqual(declared.names, { dns: ['kvm1'], addresses: ['192.0.2.11'] });
  assert.deepEqual(
    declared.interfaces.map(({ name }) => name),
    ['eth0'],
  );
  await fleet.add('kvm2', '192.0.2.12');
  await fleet.report('kvm2', testInterface('eth2', [ADDRESS]));
  await fleet.settle();
  assert.ok((await fleet.served('kvm2')).includes(ADDRESS));
});
