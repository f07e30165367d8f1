import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InterfaceView } from '@virt-trust/contract/model/interface.ts';
import { settledState, testHost, testInterface, testInventory } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';
import { interfaceViews } from './interface-view.ts';
import type { RoleGiven } from './roles.ts';

const ROLES = new Map<string, readonly RoleGiven[]>([
  ['eth0', [{ role: 'management', from: 'host add' }]],
  ['eth2', [{ role: 'display', from: 'setting role.display (cluster rack1)' }]],
]);
const rolesOf = (name: string): readonly RoleGiven[] => ROLES.get(name) ?? [];

const management = { dns: ['kvm1'], addresses: ['192.0.2.11'] };
const display = { dns: ['kvm1.console.example'], addresses: ['10.0.3.7'] };
const refusedAddress = {
  name: '10.0.9.9',
  interface: 'eth2',
  rule: 'interface.outside_subnets',
  reason: 'nobody accepted it',
  hint: 'accept it',
};
const refusedName = {
  ...refusedAddress,
  name: 'www.example',
  interface: null,
  rule: 'interface.outside_domains',
};

const HOST: Host = testHost('kvm1', {
  inventory: testInventory({
    interfaces: [
      testInterface('lo', ['127.0.0.1'], { leftOut: 'loopback' }),
      testInterface('eth2', ['10.0.3.7', '10.0.9.9']),
      testInterface('eth0', ['192.0.2.11', 'fe80::1']),
    ],
  }),
  declared: {
    interface: 'eth0',
    names: { dns: [...management.dns, ...display.dns], addresses: ['192.0.2.11', '10.0.3.7'] },
    interfaces: [
      { name: 'eth0', roles: ['management'], names: management },
      { name: 'eth2', roles: ['display'], names: display },
    ],
    refused: [refusedAddress, refusedName],
  },
});

/** One line for each interface: what the table of the command shows. */
function linesOf(views: readonly InterfaceView[]): string[] {
  return views.map((one) =>
    [
      one.name,
      one.reported ? 'reported' : 'not reported',
      one.leftOut ?? 'can serve',
      one.roles.map(({ role, from }) => `${role} by ${from}`).join('+') || 'no role',
      [...one.names.dns, ...one.names.addresses].join('+') || 'no names',
      one.refused.map((refusal) => refusal.name).join('+') || 'nothing refused',
      one.services.join('+') || 'no service',
    ].join(' | '),
  );
}

test('each interface is shown with its roles and where these come from, its names, what is refused and its services', () => {
  assert.deepEqual(linesOf(interfaceViews(HOST, rolesOf)), [
    'eth0 | reported | can serve | management by host add | kvm1+192.0.2.11 | www.example | libvirt+migration+nbd+backup',
    'eth2 | reported | can serve | display by setting role.display (cluster rack1) | kvm1.console.example+10.0.3.7 | 10.0.9.9 | vnc+spice',
    'lo | reported | loopback | no role | no names | nothing refused | no service',
  ]);
});

test('an interface that only words are of is shown as not reported, also one with a name of JavaScript', () => {
  const word = {
    ...HOST.word,
    interfaces: { constructor: { roles: ['storage' as const], dns: [], addresses: ['10.0.4.7'] } },
  };
  const views = interfaceViews({ ...HOST, word, observed: null, inventory: null }, rolesOf);
  assert.deepEqual(
    views.map(({ name, reported, up }) => [name, reported, up]),
    [
      ['eth0', false, false],
      ['eth2', false, false],
      ['constructor', false, false],
    ],
  );
});

test('what has come to rest counts, not what the kernel has at the moment', () => {
  const network = { hostName: 'kvm1', interfaces: [testInterface('eth0', ['192.0.2.99'])] };
  const [one] = interfaceViews({ ...HOST, observed: settledState('ours', { network }) }, rolesOf);
  assert.deepEqual(
    one?.addresses.map(({ address }) => address),
    ['192.0.2.99'],
  );
});
