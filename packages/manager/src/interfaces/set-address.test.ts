import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SetHostAddress } from '@virt-trust/contract/model/host.ts';
import { testHost, testInterface, testInventory } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';
import type { Neighbours } from './given-names.ts';
import { describePlace, placeAfter } from './set-address.ts';

const HOST: Host = testHost('kvm1', {
  ssh: { destination: 'root@192.0.2.11', port: 2222, options: ['ProxyJump=bastion'] },
  channel: { address: '192.0.2.11', port: 16515 },
  inventory: testInventory({
    interfaces: [testInterface('eth0', ['192.0.2.11', '192.0.2.41', '2001:db8::41'])],
  }),
});

const NEIGHBOURS: Neighbours = {
  holderOf: (name) => (name === '192.0.2.12' || name === 'kvm2.example' ? 'kvm2' : null),
  managerNames: { dns: [], addresses: ['192.0.2.1'] },
  mayCertify: (name) => name !== '203.0.113.99',
};

const at = (order: SetHostAddress, host = HOST) => placeAfter(host, order, NEIGHBOURS);

test('an address that the host reports is accepted, and counts as long as it is reported', () => {
  const { channel, ssh, word } = at({ address: '192.0.2.41' });
  assert.deepEqual(channel, { address: '192.0.2.41', port: 16515 });
  assert.deepEqual(ssh, { ...HOST.ssh, destination: 'root@192.0.2.41' });
  assert.deepEqual(word.accepted, ['192.0.2.11', '192.0.2.41']);
  assert.deepEqual(word.outside, { dns: [], addresses: [] });
});

test('one that it can not report counts until another is said, which takes its place', () => {
  const first = { ...HOST, ...at({ address: '203.0.113.7', port: 26515 }) };
  assert.deepEqual(first.word.outside, { dns: [], addresses: ['203.0.113.7'] });
  assert.deepEqual(first.channel, { address: '203.0.113.7', port: 26515 });
  const second = { ...first, ...at({ address: 'KVM1.rack2.example' }, first) };
  assert.deepEqual(second.word.outside, { dns: ['kvm1.rack2.example'], addresses: [] });
  assert.deepEqual(second.channel, { address: 'kvm1.rack2.example', port: 26515 });
  assert.equal(
    describePlace(first, second),
    "dialled at kvm1.rack2.example port 26515, before 203.0.113.7 port 26515; ssh to root@kvm1.rack2.example, before root@203.0.113.7; names that it can't report kvm1.rack2.example, before 203.0.113.7",
  );
  assert.deepEqual(at({ address: '192.0.2.11' }, second).word.outside, { dns: [], addresses: [] });
});

test('for the channel only, nothing else is said of it', () => {
  const { channel, word } = at({ address: '192.0.2.12', channelOnly: true });
  assert.equal(channel.address, '192.0.2.12');
  assert.equal(word, HOST.word);
});

test('ssh goes where it is told to, or stays where it did not go to the address that was dialled', () => {
  const elsewhere = { ...HOST, ssh: { destination: 'root@kvm1.bastion' } };
  assert.deepEqual(at({ address: '192.0.2.41' }, elsewhere).ssh, { destination: 'root@kvm1.bastion' });
  const told = at({ address: '192.0.2.41', ssh: { destination: 'admin@kvm1' } }).ssh;
  assert.deepEqual(told, { ...HOST.ssh, destination: 'admin@kvm1' });
  const bracketed = {
    ...HOST,
    channel: { address: '2001:db8::1', port: 1 },
    ssh: { destination: '[2001:db8::1]' },
  };
  assert.equal(at({ address: '2001:db8::41' }, bracketed).ssh.destination, '2001:db8::41');
});

for (const [what, address, code] of [
  ["another host's address", '192.0.2.12', 'host.name_conflict'],
  ["another host's name", 'kvm2.example', 'host.name_conflict'],
  ["the manager's address", '192.0.2.1', 'interface.name_refused'],
  ['a loopback address', '127.0.0.1', 'interface.name_refused'],
  ['a loopback name', 'localhost', 'interface.name_refused'],
  ['a name with an underscore', 'kvm_1', 'interface.name_refused'],
  ['what the authorities may not certify', '203.0.113.99', 'interface.name_refused'],
] as const) {
  test(`SECURITY: ${what} is no address of this host, whoever says so`, () => {
    assert.throws(() => at({ address }), { code });
  });
}
