import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InterfaceRole, InterfaceWord } from '@virt-trust/contract/model/interface.ts';
import type { Interface } from '@virt-trust/contract/model/inventory.ts';
import { declaredOn, testHost, testInterface } from '../hosts/fixtures.ts';
import { roleSettings } from './fixtures.ts';
import { rolesOf } from './roles.ts';

const ETH0 = testInterface('eth0', ['192.0.2.11']);
const ETH1 = testInterface('eth1', ['10.0.1.11', 'fd00:1::11']);
const ETH2 = testInterface('eth2', ['10.0.2.11']);
const LO = testInterface('lo', ['127.0.0.1'], { leftOut: 'loopback: this host alone reaches it' });
const VIRBR0 = testInterface('virbr0', ['192.168.122.1'], { leftOut: "a network of libvirt's own" });
const FABRIC = [LO, ETH0, ETH1, ETH2, VIRBR0];

interface Case {
  readonly interfaces?: readonly Interface[];
  readonly roles?: Partial<Record<InterfaceRole, string[]>>;
  readonly word?: Record<string, Partial<InterfaceWord>>;
  readonly accepted?: string | null;
  readonly channel?: string;
  /** Declared before for the display, on eth2. */
  readonly display?: string[];
}

function roles({ interfaces = FABRIC, accepted = 'eth0', ...one }: Case) {
  const base = testHost('host-1');
  const word = Object.fromEntries(
    Object.entries(one.word ?? {}).map(([name, said]) => [
      name,
      { roles: null, dns: [], addresses: [], ...said },
    ]),
  );
  const before = declaredOn('eth0', { dns: [], addresses: ['192.0.2.11'] });
  const host = {
    declared: {
      ...before,
      interface: accepted,
      interfaces: [
        ...before.interfaces,
        { name: 'eth2', roles: ['display' as const], names: { dns: [], addresses: one.display ?? [] } },
      ],
    },
    channel: { address: one.channel ?? '192.0.2.11', port: 16515 },
    word: { ...base.word, interfaces: word },
  };
  const report = { hostName: 'host-1', interfaces: [...interfaces] };
  const given = rolesOf(host, report, roleSettings(one.roles ?? {}));
  return Object.fromEntries(
    [...given].map(([name, all]) => [name, all.map(({ role, from }) => `${role} by ${from}`)]),
  );
}

const ADDED = ['management by host add'];
const MIGRATION = ['migration by setting role.migration (global)'];
const DISPLAY = ['display by setting role.display (global)'];

const CASES: readonly [what: string, one: Case, expected: Record<string, string[]>][] = [
  ['Without any setting the interface accepted is for management.', {}, { eth0: ADDED }],
  [
    'Roles go by names and by subnets of both families.',
    { roles: { migration: ['fd00:1::/64'], display: ['eth2'] } },
    { eth0: ADDED, eth1: MIGRATION, eth2: DISPLAY },
  ],
  [
    'An interface may have several roles, the one accepted too.',
    { roles: { migration: ['eth[0]', 'eth0'], display: ['192.0.2.0/24'] } },
    { eth0: [...ADDED, ...MIGRATION, ...DISPLAY] },
  ],
  [
    'A setting for management takes it from the interface accepted.',
    { roles: { management: ['eth1'] } },
    { eth1: ['management by setting role.management (global)'] },
  ],
  [
    'A setting that no interface matches leaves it there.',
    { roles: { management: ['eth9', '10.9.0.0/16'] } },
    { eth0: ADDED },
  ],
  [
    'What is left out has no role by a setting that matches everything.',
    { roles: { storage: ['*'], display: ['0.0.0.0/0'] } },
    {
      eth0: [...ADDED, ...DISPLAY, 'storage by setting role.storage (global)'],
      eth1: [...DISPLAY, 'storage by setting role.storage (global)'],
      eth2: [...DISPLAY, 'storage by setting role.storage (global)'],
    },
  ],
  [
    'An administrator gives a role to what is left out, but never to loopback.',
    { word: { virbr0: { roles: ['display'] }, lo: { roles: ['display'] } } },
    { eth0: ADDED, virbr0: ['display by interface set'] },
  ],
  [
    'What an administrator says of an interface stands above the settings.',
    {
      roles: { migration: ['eth1'], display: ['eth*'] },
      word: { eth1: { roles: [] }, eth2: { roles: ['storage'] } },
    },
    { eth0: [...ADDED, ...DISPLAY], eth2: ['storage by interface set'] },
  ],
  [
    'Names alone are no word on roles.',
    { roles: { display: ['eth2'] }, word: { eth2: { dns: ['c.example'] }, eth1: { dns: ['m.example'] } } },
    { eth0: ADDED, eth2: DISPLAY },
  ],
  [
    'An interface that is not there has the role that an administrator gave it.',
    { word: { bond7: { roles: ['storage'] } } },
    { eth0: ADDED, bond7: ['storage by interface set'] },
  ],
  [
    'Management stays with the host where its interface is told to be for something else.',
    { word: { eth0: { roles: ['display'] } } },
    { eth0: [...ADDED, 'display by interface set'] },
  ],
  [
    'Globs have * and ?, and nothing else means anything.',
    { roles: { display: ['?th1', 'e*2', 'eth.', '.*', '^eth0$'] } },
    { eth0: ADDED, eth1: DISPLAY, eth2: DISPLAY },
  ],
  [
    'A subnet is matched by addresses that clients may be told of.',
    { interfaces: [ETH0, testInterface('eth5', ['fe80::5'])], roles: { display: ['fe80::/10'] } },
    { eth0: ADDED },
  ],
  [
    'Management follows its address to the bridge that its interface became a port of.',
    {
      interfaces: [
        testInterface('eth0', [], { master: 'br0', leftOut: 'a port of bridge br0' }),
        testInterface('br0', ['192.0.2.11']),
        ETH2,
      ],
    },
    { br0: ADDED },
  ],
  [
    'It follows nothing but its address: an interface without addresses keeps it.',
    { interfaces: [testInterface('eth0', []), ETH1, ETH2] },
    { eth0: ADDED },
  ],
  [
    'It does not follow the channel to a network of another role, over which that came back.',
    {
      interfaces: [testInterface('eth0', []), ETH2],
      roles: { display: ['eth2'] },
      display: ['10.0.2.11'],
      channel: '10.0.2.11',
    },
    { eth0: ADDED, eth2: DISPLAY },
  ],
  [
    'It follows the channel to an interface that had no role.',
    { interfaces: [testInterface('eth0', []), testInterface('br0', ['192.0.2.41'])], channel: '192.0.2.41' },
    { br0: ADDED },
  ],
  [
    'A link that is down keeps it.',
    { interfaces: [testInterface('eth0', [], { up: false }), testInterface('br0', ['192.0.2.11'])] },
    { eth0: ADDED },
  ],
  [
    'A host that calls its interfaces as JavaScript calls its own is like any other.',
    {
      interfaces: [
        ETH0,
        testInterface('constructor', ['10.0.2.9']),
        testInterface('__proto__', ['10.0.2.8']),
      ],
      roles: { display: ['10.0.2.0/24'] },
    },
    Object.fromEntries([
      ['eth0', ADDED],
      ['constructor', DISPLAY],
      ['__proto__', DISPLAY],
    ]),
  ],
  ['Where nothing was accepted there is no management.', { accepted: null, roles: {} }, {}],
];

for (const [what, one, expected] of CASES) test(what, () => assert.deepEqual(roles(one), expected));
