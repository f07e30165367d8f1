import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SetInterface } from '@virt-trust/contract/model/interface.ts';
import { testHost, testInterface, testInventory } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';
import type { Neighbours } from './given-names.ts';
import { interfaceWordAfter } from './set-interface.ts';

const HOST: Host = testHost('kvm1', {
  inventory: testInventory({
    interfaces: [
      testInterface('lo', ['127.0.0.1'], { leftOut: 'loopback' }),
      testInterface('eth0', ['192.0.2.11']),
      testInterface('eth2', ['10.0.3.7', '10.0.3.8', 'fd00:3::7', 'fe80::7']),
      testInterface('vnet0', [], { leftOut: "a guest's tap" }),
    ],
  }),
  word: {
    dns: ['kvm1'],
    accepted: ['192.0.2.11'],
    outside: { dns: [], addresses: ['203.0.113.9'] },
    interfaces: { eth2: { roles: ['display'], dns: ['old.example'], addresses: ['203.0.113.7'] } },
  },
});

const NEIGHBOURS: Neighbours = {
  holderOf: (name) => (['10.0.3.8', 'kvm2.example', '203.0.113.8'].includes(name) ? 'kvm2' : null),
  managerNames: { dns: ['manager.example'], addresses: ['192.0.2.1'] },
  mayCertify: () => true,
};

function after(order: SetInterface, name = 'eth2', host = HOST) {
  return interfaceWordAfter(host, name, order, NEIGHBOURS);
}

test('what is given takes the place of what was said, what is left out stays, and both are told', () => {
  const { word, said } = after({ roles: ['display', 'storage'], dns: ['new.example'], accept: false });
  assert.deepEqual(word.interfaces['eth2'], {
    roles: ['display', 'storage'],
    dns: ['new.example'],
    addresses: ['203.0.113.7'],
  });
  assert.equal(said, 'roles display, storage, before display; names new.example, before old.example');
  assert.deepEqual(word.accepted, HOST.word.accepted);
  assert.deepEqual(word.dns, HOST.word.dns);
});

test('without being told otherwise it accepts what the interface reports now, but never what another host has', () => {
  const { word, said } = after({});
  assert.deepEqual(word.accepted, ['192.0.2.11', '10.0.3.7', 'fd00:3::7']);
  assert.equal(said, 'accepted 10.0.3.7, fd00:3::7');
  assert.equal(after({ accept: false }).said, 'nothing new');
});

test('an interface of which all is as the settings have it is no word any more', () => {
  const { word } = after({ roles: null, dns: [], addresses: [], accept: false });
  assert.deepEqual(word.interfaces, {});
});

test('an address that is released is nowhere in the word, and not accepted again on the side', () => {
  const host = { ...HOST, word: after({}).word };
  const released = after({ release: ['10.0.3.7', '203.0.113.7', '203.0.113.9'] }, 'eth2', host).word;
  assert.deepEqual(released.accepted, ['192.0.2.11', 'fd00:3::7']);
  assert.deepEqual(released.outside.addresses, []);
  assert.deepEqual(released.interfaces['eth2']?.addresses, []);
  assert.ok(released.released?.includes('10.0.3.7'));
  const later = after({ dns: [] }, 'eth2', { ...HOST, word: released }).word;
  assert.ok(!later.accepted.includes('10.0.3.7'));
  const asked = after({ accept: true }, 'eth2', { ...HOST, word: released }).word;
  assert.ok(asked.accepted.includes('10.0.3.7'));
  assert.ok(!asked.released?.includes('10.0.3.7'));
});

test('an address is one, however it is written', () => {
  assert.deepEqual(after({ addresses: ['FD00:0::9', 'fd00::9'] }).word.interfaces['eth2']?.addresses, [
    'fd00::9',
  ]);
  const host = { ...HOST, word: after({}).word };
  assert.ok(!after({ release: ['FD00:3:0::7'] }, 'eth2', host).word.accepted.includes('fd00:3::7'));
});

test('an interface that only the kernel of the host knows by now, as constructor, is set as any other', () => {
  const inventory = testInventory({ interfaces: [testInterface('constructor', ['10.0.5.7'])] });
  const { word, said } = after({ roles: ['storage'] }, 'constructor', { ...HOST, inventory });
  assert.deepEqual(word.interfaces['constructor'], { roles: ['storage'], dns: [], addresses: [] });
  assert.equal(said, 'roles storage, before as set for all; accepted 10.0.5.7');
});

const REFUSALS: readonly (readonly [string, string, SetInterface, string, RegExp])[] = [
  ['an interface that there is not', 'eth9', {}, 'interface.unknown', /eth9.*none of that name/],
  ['loopback', 'lo', { roles: ['display'] }, 'interface.loopback', /loopback/],
  ["another host's address", 'eth2', { addresses: ['203.0.113.8'] }, 'host.name_conflict', /kvm2 has it/],
  ["another host's name", 'eth2', { dns: ['kvm2.example'] }, 'host.name_conflict', /kvm2 has it/],
  [
    "the manager's address",
    'eth2',
    { addresses: ['192.0.2.1'] },
    'interface.name_refused',
    /name_of_manager/,
  ],
  ["the manager's name", 'eth2', { dns: ['manager.example'] }, 'interface.name_refused', /name_of_manager/],
  ['loopback by name', 'eth2', { dns: ['localhost'] }, 'interface.name_refused', /name_loopback/],
  ['a name that is an address', 'eth2', { dns: ['10.0.0.1'] }, 'interface.name_refused', /name_malformed/],
  ['a loopback address', 'eth2', { addresses: ['127.0.0.1'] }, 'interface.name_refused', /address_loopback/],
  [
    'a mapped address',
    'eth2',
    { addresses: ['::ffff:10.0.0.1'] },
    'interface.name_refused',
    /address_mapped/,
  ],
  ['a link-local one', 'eth2', { addresses: ['fe80::1'] }, 'interface.name_refused', /address_link_local/],
  ['no address at all', 'eth2', { addresses: ['10.0.0'] }, 'name.address_malformed', /10\.0\.0/],
  [
    'to release what it has not',
    'eth2',
    { release: ['10.9.9.9'] },
    'interface.address_not_held',
    /10\.9\.9\.9/,
  ],
];
for (const [what, name, order, code, message] of REFUSALS) {
  test(`SECURITY: ${what} is refused to an administrator too`, () => {
    assert.throws(() => after(order, name), { code, message });
  });
}

test('who names an interface that there is not is told those that there are', () => {
  assert.throws(() => after({}, 'eth9'), { hint: 'it has eth0, eth2' });
});
