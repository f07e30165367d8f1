import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { declare } from './declaration.ts';
import { testInterface, testInventory } from './fixtures.ts';

const base = {
  hostName: 'host-a',
  sshHost: '192.0.2.11',
  interface: undefined,
  names: [] as string[],
  inventory: testInventory(),
};

test('what is declared is the interface that ssh reaches, with its addresses, the name given and the one reported', () => {
  const inventory = testInventory({
    hostName: 'kvm1.example.org',
    interfaces: [
      testInterface('eth1', ['198.51.100.7']),
      testInterface('eth0', ['192.0.2.11', 'fe80::1', '2001:db8::11']),
    ],
  });
  assert.deepEqual(declare({ ...base, inventory }), {
    interface: 'eth0',
    names: { dns: ['host-a', 'kvm1.example.org'], addresses: ['192.0.2.11', '2001:db8::11'] },
  });
});

test('a host that reports to be localhost, an address or no name at all has that not declared', () => {
  for (const hostName of [
    'localhost',
    'localhost.localdomain',
    'LOCALHOST',
    'a.localhost',
    '192.0.2.1',
    '',
    'x y',
    '-x',
    '*.example.org',
    `${'a'.repeat(64)}.example`,
  ]) {
    assert.deepEqual(declare({ ...base, inventory: testInventory({ hostName }) }).names.dns, ['host-a']);
  }
});

test('an interface can be named, and must have an address', () => {
  const inventory = testInventory({
    interfaces: [
      testInterface('eth0', ['192.0.2.11']),
      testInterface('eth1', ['198.51.100.7']),
      testInterface('eth2', []),
    ],
  });
  assert.equal(declare({ ...base, inventory, interface: 'eth1' }).interface, 'eth1');
  for (const name of ['eth2', 'eth9']) {
    assert.throws(
      () => declare({ ...base, inventory, interface: name }),
      (error) => isTrustError(error, 'host.no_interface'),
    );
  }
});

test('where ssh goes by a name, the one usable interface is it; of several one must be named', () => {
  const bridges = [testInterface('lo', ['127.0.0.1']), testInterface('virbr0', ['192.168.122.1'])];
  const one = testInventory({ interfaces: [...bridges, testInterface('eth0', ['192.0.2.11'])] });
  assert.equal(declare({ ...base, sshHost: 'kvm1', inventory: one }).interface, 'eth0');
  const two = testInventory({ interfaces: [...one.interfaces, testInterface('eth1', ['198.51.100.7'])] });
  assert.throws(
    () => declare({ ...base, sshHost: 'kvm1', inventory: two }),
    (error) =>
      isTrustError(error, 'host.no_interface') &&
      /eth0 or eth1/.test(error.message) &&
      /--interface/.test(error.hint ?? ''),
  );
});

test('whatever a host reports as its name, what is declared are DNS names', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 300 }), (hostName) => {
      for (const name of declare({ ...base, inventory: testInventory({ hostName }) }).names.dns)
        assert.match(name, /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/);
    }),
  );
});
