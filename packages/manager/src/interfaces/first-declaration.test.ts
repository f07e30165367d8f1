import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { testInterface, testInventory } from '../hosts/fixtures.ts';
import { type DeclarationInput, declare as declareWithWord, namesToClaim } from './first-declaration.ts';
import { NO_ROLE_SETTINGS, roleSettings } from './fixtures.ts';

const declare = (input: DeclarationInput) => declareWithWord(input).declared;

const base: DeclarationInput = {
  hostName: 'host-a',
  sshHost: '192.0.2.11',
  interface: undefined,
  names: [],
  inventory: testInventory(),
  channel: { address: '192.0.2.11', port: 16515 },
  settings: NO_ROLE_SETTINGS,
  managerNames: { dns: [], addresses: [] },
  mayCertify: () => true,
  known: undefined,
  holders: new Map(),
};

test('what is declared is the interface that ssh reaches, with its addresses, the name given and the one reported', () => {
  const inventory = testInventory({
    hostName: 'kvm1.example.org',
    interfaces: [
      testInterface('eth1', ['198.51.100.7']),
      testInterface('eth0', ['192.0.2.11', 'fe80::1', '2001:db8::11']),
    ],
  });
  const names = { dns: ['host-a', 'kvm1.example.org'], addresses: ['192.0.2.11', '2001:db8::11'] };
  assert.deepEqual(declareWithWord({ ...base, inventory }), {
    word: {
      dns: names.dns,
      accepted: names.addresses,
      outside: { dns: [], addresses: [] },
      interfaces: {},
    },
    declared: {
      interface: 'eth0',
      names,
      interfaces: [{ name: 'eth0', roles: ['management'], names }],
      refused: [],
    },
  });
});

test('what interfaces with a role by setting have is accepted too, and interfaces without a role have no say', () => {
  const inventory = testInventory({
    interfaces: [
      testInterface('eth0', ['192.0.2.11']),
      testInterface('eth1', ['10.0.1.11']),
      testInterface('eth2', ['10.0.2.11']),
      testInterface('virbr0', ['192.168.122.1'], { leftOut: "libvirt's own network" }),
    ],
  });
  const { word, declared } = declareWithWord({
    ...base,
    inventory,
    settings: roleSettings({ migration: ['eth1'], display: ['virbr*'] }),
  });
  assert.deepEqual(word.accepted.toSorted(), ['10.0.1.11', '192.0.2.11']);
  assert.deepEqual(
    declared.interfaces.map(({ name, roles }) => [name, roles]),
    [
      ['eth0', ['management']],
      ['eth1', ['migration']],
    ],
  );
});

test('a host that is added again keeps what was said of its interfaces, and has what it reports now accepted', () => {
  const first = declareWithWord(base).word;
  const known = {
    ...first,
    released: ['192.0.2.99'],
    outside: { dns: ['kvm1.example'], addresses: ['203.0.113.7'] },
    interfaces: { eth1: { roles: ['display' as const], dns: ['kvm1.console.example'], addresses: [] } },
  };
  const inventory = testInventory({ interfaces: [testInterface('eth0', ['192.0.2.99'])] });
  const { word, declared } = declareWithWord({ ...base, known, inventory, interface: 'eth0' });
  assert.deepEqual(word.accepted, ['192.0.2.99']);
  assert.deepEqual(word.interfaces, known.interfaces);
  assert.deepEqual(word.outside, known.outside);
  assert.deepEqual(declared.names, {
    dns: ['host-a', 'kvm1.example', 'kvm1.console.example'],
    addresses: ['192.0.2.99', '203.0.113.7'],
  });
});

test('a host with a name or a management address that another host has is not added', () => {
  for (const claimed of ['host-a', 'kvm9', '192.0.2.11', '2001:db8::11']) {
    const input = { ...base, names: ['KVM9.'], holders: new Map([[claimed, 'host-b']]) };
    assert.ok(namesToClaim(input).length > 0);
    assert.throws(
      () => declare(input),
      (error) => isTrustError(error, 'host.name_conflict') && /host-b/.test(error.message),
      claimed,
    );
  }
});

test('SECURITY: a reported name that begins with another machine’s short name is not accepted with the host', () => {
  const inventory = testInventory({ hostName: 'kvm2.example.org' });
  const input = { ...base, inventory };
  assert.ok(namesToClaim(input).includes('kvm2'));
  const others = [
    { holders: new Map([['kvm2', 'kvm2']]) },
    { managerNames: { dns: ['kvm2'], addresses: [] } },
  ];
  for (const other of others) assert.deepEqual(declareWithWord({ ...input, ...other }).word.dns, ['host-a']);
  const given = { ...input, ...others[0], names: ['kvm2.example.org'] };
  assert.deepEqual(declareWithWord(given).word.dns, ['host-a', 'kvm2.example.org']);
});

test('an address of another role that another host has is refused alone, and not accepted for later', () => {
  const inventory = testInventory({
    interfaces: [testInterface('eth0', ['192.0.2.11']), testInterface('eth1', ['10.0.1.11', '10.0.1.12'])],
  });
  const { word, declared } = declareWithWord({
    ...base,
    inventory,
    settings: roleSettings({ display: ['10.0.1.0/24'] }),
    holders: new Map([['10.0.1.11', 'host-b']]),
  });
  assert.deepEqual(word.accepted.toSorted(), ['10.0.1.12', '192.0.2.11']);
  assert.deepEqual(declared.names.addresses, ['192.0.2.11', '10.0.1.12']);
  assert.deepEqual(
    declared.refused.map(({ name, rule }) => [name, rule]),
    [['10.0.1.11', 'interface.address_conflict']],
  );
});

test('a host that reports the address of the manager is added without it, and that is not accepted', () => {
  const inventory = testInventory({ interfaces: [testInterface('eth0', ['192.0.2.1', '192.0.2.11'])] });
  const managerNames = { dns: ['manager'], addresses: ['192.0.2.1'] };
  const { word, declared } = declareWithWord({ ...base, inventory, managerNames });
  assert.deepEqual(word.accepted, ['192.0.2.11']);
  assert.deepEqual(declared.names.addresses, ['192.0.2.11']);
  assert.equal(declared.refused[0]?.rule, 'interface.name_of_manager');
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

test("a name given outside of the authorities' constraints is refused at once, one that the host reports is not taken", () => {
  const mayCertify = (name: string) => !name.endsWith('.elsewhere.example');
  const inventory = testInventory({ hostName: 'kvm1.elsewhere.example' });
  const { word, declared } = declareWithWord({ ...base, inventory, mayCertify });
  assert.deepEqual(word.dns, ['host-a']);
  assert.deepEqual(
    declared.refused.map(({ name, rule }) => `${name}: ${rule}`),
    ['kvm1.elsewhere.example: interface.outside_domains'],
  );
  assert.throws(
    () => declare({ ...base, names: ['a.elsewhere.example'], mayCertify }),
    (error) => isTrustError(error, 'host.name_not_permitted') && /permit-dns/.test(error.hint ?? ''),
  );
});
