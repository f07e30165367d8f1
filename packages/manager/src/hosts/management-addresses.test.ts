import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settledState, testHost, testInterface } from './fixtures.ts';
import type { Host } from './host.ts';
import { managementAddresses } from './management-addresses.ts';

/** Management on eth0, migration on eth1, with what its kernel has. */
function host(options: { declared: string[]; has: string[]; outside?: string[]; channel?: string }): Host {
  const names = { dns: ['kvm1'], addresses: options.declared };
  const migration = { dns: [], addresses: ['10.0.1.11'] };
  return testHost('kvm1', {
    channel: { address: options.channel ?? '192.0.2.11', port: 16515 },
    declared: {
      interface: 'eth0',
      names: { dns: ['kvm1'], addresses: [...options.declared, ...migration.addresses] },
      interfaces: [
        { name: 'eth0', roles: ['management'], names },
        { name: 'eth1', roles: ['migration'], names: migration },
      ],
      refused: [],
    },
    word: {
      dns: ['kvm1'],
      accepted: options.has,
      outside: { dns: [], addresses: options.outside ?? [] },
      interfaces: {},
    },
    observed: settledState('ours', {
      network: {
        hostName: 'kvm1',
        interfaces: [testInterface('eth0', options.has), testInterface('eth1', ['10.0.1.11'])],
      },
    }),
  });
}

test('the manager dials management alone, whatever networks else a host is on', () => {
  const declared = ['192.0.2.11', '2001:db8::11'];
  assert.deepEqual(managementAddresses(host({ declared, has: declared })), declared);
});

test('it does not dial what clients in front of address translation dial', () => {
  const declared = ['192.0.2.11', '203.0.113.7'];
  assert.deepEqual(managementAddresses(host({ declared, has: ['192.0.2.11'] })), ['192.0.2.11']);
});

test('a host that is reached under an address that it does not have is dialled there', () => {
  const declared = ['10.9.0.11', '203.0.113.7'];
  const outside = { outside: ['203.0.113.7'], has: ['10.9.0.11'], declared };
  assert.deepEqual(managementAddresses(host({ ...outside, channel: '203.0.113.7' })), ['203.0.113.7']);
  assert.deepEqual(managementAddresses(host({ ...outside, channel: '10.9.0.11' })), ['10.9.0.11']);
});

test('where nothing that it was declared with is reported, all of it is dialled', () => {
  assert.deepEqual(managementAddresses(host({ declared: ['192.0.2.11'], has: ['192.0.2.99'] })), [
    '192.0.2.11',
  ]);
});
