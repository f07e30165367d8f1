import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HostDetail } from '@virt-trust/contract/model/host.ts';
import type { HostNetwork, Interface } from '@virt-trust/contract/model/inventory.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { isInSubnet, parseIpSubnet } from '@virt-trust/pki/ip-subnet.ts';
import fc from 'fast-check';
import { claimKey } from '../hosts/claim-key.ts';
import { declaredOn, testHost, testInterface } from '../hosts/fixtures.ts';
import type { AdministratorWord, Declaration } from '../hosts/host.ts';
import { declarationOf } from './declare.ts';
import { roleSettings } from './fixtures.ts';
import type { InterfaceSettings } from './interface-settings.ts';

const SETTINGS = roleSettings(
  { migration: ['10.0.1.0/24', 'fd00:1::/64'], display: ['eth2'] },
  { allowedSubnets: ['10.0.2.0/24'], allowedDomains: ['rack1.example'] },
);
const FABRIC: readonly Interface[] = [
  testInterface('eth0', ['192.0.2.11', '2001:db8::11']),
  testInterface('eth1', ['fd00:1::11', '10.0.1.11']),
  testInterface('eth2', ['10.0.2.11']),
  testInterface('eth3', ['10.0.3.11']),
  testInterface('virbr0', ['192.168.122.1'], { leftOut: "a network of libvirt's own" }),
];
const WORD: AdministratorWord = {
  dns: ['host-1'],
  accepted: ['192.0.2.11', '2001:db8::11'],
  outside: { dns: [], addresses: [] },
  interfaces: {},
};
const FORMER = declaredOn('eth0', { dns: ['host-1'], addresses: ['192.0.2.11', '2001:db8::11'] });

interface Case {
  readonly interfaces?: readonly Interface[];
  readonly hostName?: string;
  readonly word?: Partial<AdministratorWord>;
  readonly settings?: InterfaceSettings;
  readonly former?: Declaration;
  readonly uncertifiable?: readonly string[];
  readonly held?: Readonly<Record<string, string>>;
  readonly manager?: { readonly dns: string[]; readonly addresses: string[] };
}

function declare(one: Case): Declaration {
  const held = new Map(Object.entries(one.held ?? {}).map(([name, holder]) => [claimKey(name), holder]));
  const report: HostNetwork = {
    hostName: one.hostName ?? 'host-1',
    interfaces: [...(one.interfaces ?? FABRIC)],
  };
  return declarationOf({
    host: testHost('host-1', { declared: one.former ?? FORMER, word: { ...WORD, ...one.word } }),
    report,
    settings: one.settings ?? SETTINGS,
    managerNames: one.manager ?? { dns: ['manager.example'], addresses: ['10.0.2.254', '192.0.2.1'] },
    holderOf: (name) => held.get(claimKey(name)) ?? null,
    mayCertify: (name) => !(one.uncertifiable ?? []).includes(name),
  });
}

/** Names by interface, and what was refused. */
function summary({ interfaces, refused }: Declaration) {
  return {
    names: Object.fromEntries(
      interfaces.map(({ name, names }) => [name, [...names.dns, ...names.addresses]]),
    ),
    refused: refused.map(({ name, interface: on, rule }) => `${on ?? 'host'} ${name}: ${rule}`),
  };
}

const ETH0 = ['host-1', '192.0.2.11', '2001:db8::11'];
const ALL = { eth0: ETH0, eth1: ['10.0.1.11', 'fd00:1::11'], eth2: ['10.0.2.11'] };
/** The fabric with another interface in place of the one of its name. */
const withInterface = (one: Interface) => FABRIC.map((old) => (old.name === one.name ? one : old));
const withAddresses = (name: string, addresses: string[], more: Partial<Interface> = {}) =>
  withInterface(testInterface(name, addresses, more));
const former = (more: Record<string, string[]>): Declaration => ({
  ...FORMER,
  interfaces: [
    ...FORMER.interfaces,
    ...Object.entries(more).map(([name, addresses]) => ({
      name,
      roles: ['display' as const],
      names: { dns: [], addresses },
    })),
  ],
});
const said = (name: string, word: { dns?: string[]; addresses?: string[] }) => ({
  interfaces: { [name]: { roles: null, dns: [], addresses: [], ...word } },
});

const CASES: readonly [what: string, one: Case, names: Record<string, string[]>, refused: string[]][] = [
  ['Accepted addresses, and those in allowed subnets and subnets of roles, count.', {}, ALL, []],
  [
    'Only interfaces with a role count: 192.168.122.1 is on every host.',
    { settings: roleSettings({}, { allowedSubnets: ['0.0.0.0/0', '::/0'] }) },
    { eth0: ETH0 },
    [],
  ],
  [
    'An address that came after `host add` outside of every allowed subnet is refused.',
    { interfaces: withAddresses('eth0', ['192.0.2.11', '192.0.2.12', '2001:db8::11']) },
    ALL,
    ['eth0 192.0.2.12: interface.outside_subnets'],
  ],
  [
    "What the authorities' name constraints leave out is refused alone, whoever said it: the rest is certified.",
    {
      uncertifiable: ['host-1', '10.0.2.11', '2001:db8::11', '203.0.113.7'],
      word: said('eth2', { addresses: ['203.0.113.7'] }),
    },
    { eth0: ['192.0.2.11'], eth1: ALL.eth1 },
    [
      'eth0 2001:db8::11: issuance.name_not_permitted',
      'eth0 host-1: issuance.name_not_permitted',
      'eth2 10.0.2.11: issuance.name_not_permitted',
      'eth2 203.0.113.7: issuance.name_not_permitted',
    ],
  ],
  [
    'An accepted address counts while it is reported.',
    { interfaces: withAddresses('eth0', ['192.0.2.11']) },
    { ...ALL, eth0: ['host-1', '192.0.2.11'] },
    [],
  ],
  [
    'Several IPv6 addresses count, a deprecated one too; what the agent leaves out does not.',
    {
      interfaces: withInterface({
        ...testInterface('eth2', ['10.0.2.11', 'fd00:2::a', 'fd00:2::b', 'fd00:2::c', 'fe80::1']),
        addresses: testInterface('eth2', [
          '10.0.2.11',
          'fd00:2::a',
          'fd00:2::b',
          'fd00:2::c',
          'fe80::1',
        ]).addresses.map((one) =>
          one.address === 'fd00:2::b'
            ? { ...one, deprecated: true }
            : one.address === 'fd00:2::c'
              ? { ...one, temporary: true, leftOut: 'temporary' }
              : one,
        ),
      }),
      settings: roleSettings({ display: ['eth2'] }, { allowedSubnets: ['10.0.2.0/24', 'fd00:2::/64'] }),
    },
    { eth0: ETH0, eth2: ['10.0.2.11', 'fd00:2::a', 'fd00:2::b'] },
    [],
  ],
  [
    'Another host’s address is refused, also where nobody would have let it in; all others stay.',
    {
      interfaces: withAddresses('eth2', ['10.0.2.11', '10.0.2.12', '172.16.0.9']),
      held: { '10.0.2.12': 'host-2', '172.16.0.9': 'host-3' },
    },
    ALL,
    ['eth2 10.0.2.12: interface.address_conflict', 'eth2 172.16.0.9: interface.address_conflict'],
  ],
  [
    'Another host’s address is found whatever its spelling.',
    {
      interfaces: withAddresses('eth1', ['10.0.1.11', 'FD00:1:0::0:12']),
      held: { 'fd00:1::12': 'host-2' },
    },
    { ...ALL, eth1: ['10.0.1.11'] },
    ['eth1 fd00:1::12: interface.address_conflict'],
  ],
  [
    'The manager’s address is refused within an allowed subnet.',
    { interfaces: withAddresses('eth2', ['10.0.2.11', '10.0.2.254']) },
    ALL,
    ['eth2 10.0.2.254: interface.name_of_manager'],
  ],
  [
    'The manager’s address is refused in an administrator’s word too.',
    { word: said('eth2', { addresses: ['192.0.2.1'], dns: ['manager.example'] }) },
    ALL,
    ['eth2 192.0.2.1: interface.name_of_manager', 'eth2 manager.example: interface.name_of_manager'],
  ],
  [
    'Addresses that stand for nobody are refused wherever they are reported.',
    {
      interfaces: withInterface({
        ...testInterface('eth2', ['10.0.2.11']),
        addresses: testInterface('eth2', [
          '10.0.2.11',
          '127.0.0.1',
          '169.254.1.1',
          '224.0.0.1',
          '0.0.0.0',
          '255.255.255.255',
          '::1',
          '::ffff:10.0.2.9',
          'ff02::1',
          '::',
          '::::',
          '10.0.2.011',
        ]).addresses,
      }),
      settings: roleSettings({ display: ['eth2'] }, { allowedSubnets: ['0.0.0.0/0', '::/0'] }),
    },
    { eth0: ETH0, eth2: ['10.0.2.11'] },
    [
      'eth2 0.0.0.0: issuance.address_unspecified',
      'eth2 10.0.2.011: issuance.name_malformed',
      'eth2 127.0.0.1: issuance.address_loopback',
      'eth2 169.254.1.1: issuance.address_link_local',
      'eth2 224.0.0.1: issuance.address_multicast',
      'eth2 255.255.255.255: issuance.address_multicast',
      'eth2 ::: issuance.address_unspecified',
      'eth2 ::1: issuance.address_loopback',
      'eth2 ::::: issuance.name_malformed',
      'eth2 ::ffff:a00:209: issuance.address_mapped',
      'eth2 ff02::1: issuance.address_multicast',
    ],
  ],
  [
    'A reported host name counts within an allowed domain.',
    { hostName: 'Node7.Rack1.example.' },
    { ...ALL, eth0: ['host-1', 'node7.rack1.example', '192.0.2.11', '2001:db8::11'] },
    [],
  ],
  [
    'A reported host name outside of the allowed domains is refused, one that only ends alike too.',
    { hostName: 'node7.evilrack1.example' },
    ALL,
    ['host node7.evilrack1.example: interface.outside_domains'],
  ],
  [
    'Another host’s name is refused within an allowed domain.',
    { hostName: 'host-2.rack1.example', held: { 'host-2.rack1.example': 'host-2' } },
    ALL,
    ['host host-2.rack1.example: interface.name_conflict'],
  ],
  [
    'SECURITY: nor another host’s short name in an allowed domain, which is what everybody calls that host.',
    { hostName: 'host-2.rack1.example', held: { 'host-2': 'host-2' } },
    ALL,
    ['host host-2.rack1.example: interface.name_conflict'],
  ],
  [
    'SECURITY: nor the manager’s short name there.',
    { hostName: 'mgr.rack1.example', manager: { dns: ['mgr'], addresses: [] } },
    ALL,
    ['host mgr.rack1.example: interface.name_of_manager'],
  ],
  [
    'An administrator may know such a name better.',
    {
      hostName: 'host-2.rack1.example',
      held: { 'host-2': 'host-2' },
      word: said('eth0', { dns: ['host-2.rack1.example'] }),
    },
    { ...ALL, eth0: ['host-1', 'host-2.rack1.example', '192.0.2.11', '2001:db8::11'] },
    [],
  ],
  [
    'The manager’s name is refused.',
    { hostName: 'MANAGER.example' },
    ALL,
    ['host manager.example: interface.name_of_manager'],
  ],
  ['A machine that was never given a name is no alarm.', { hostName: 'localhost.localdomain' }, ALL, []],
  ['What is no host name at all is left out.', { hostName: '*.rack1.example' }, ALL, []],
  [
    'An administrator’s names and addresses of an interface count without any report.',
    { word: said('eth2', { dns: ['host-1.console.example'], addresses: ['203.0.113.7'] }) },
    { ...ALL, eth2: ['host-1.console.example', '10.0.2.11', '203.0.113.7'] },
    [],
  ],
  [
    'Names of an interface without a role are kept for when it has one.',
    { word: said('eth3', { dns: ['host-1.storage.example'] }) },
    ALL,
    [],
  ],
  [
    'Where the host is, that it can’t report, is its management’s.',
    { word: { outside: { dns: ['nat.example'], addresses: ['203.0.113.9'] } } },
    { ...ALL, eth0: ['host-1', 'nat.example', '192.0.2.11', '203.0.113.9', '2001:db8::11'] },
    [],
  ],
  [
    'A link that is down keeps its names, and takes none.',
    {
      interfaces: withAddresses('eth2', ['10.0.2.99'], { up: false }),
      former: former({ eth2: ['10.0.2.11'] }),
    },
    ALL,
    [],
  ],
  [
    'A link that is down and matched by its subnet keeps its role as well.',
    {
      interfaces: withAddresses('eth1', [], { up: false }),
      former: former({ eth1: ['10.0.1.11', 'fd00:1::11'] }),
    },
    ALL,
    [],
  ],
  [
    'A link that is down lets go of what another interface has now.',
    {
      interfaces: [...withAddresses('eth2', [], { up: false }), testInterface('eth4', ['10.0.2.11'])],
      former: former({ eth2: ['10.0.2.11', '10.0.2.12'] }),
      settings: roleSettings({ display: ['eth2', 'eth4'] }, { allowedSubnets: ['10.0.2.0/24'] }),
    },
    { eth0: ETH0, eth2: ['10.0.2.12'], eth4: ['10.0.2.11'] },
    [],
  ],
  [
    'A link that is down keeps nothing that would not be let in now.',
    { interfaces: withAddresses('eth2', [], { up: false }), former: former({ eth2: ['10.0.9.11'] }) },
    { eth0: ETH0, eth1: ALL.eth1 },
    ['eth2 10.0.9.11: interface.outside_subnets'],
  ],
  [
    'A link that is down and was never declared has no names by its report.',
    { interfaces: withAddresses('eth2', ['10.0.2.11'], { up: false }) },
    { eth0: ETH0, eth1: ALL.eth1 },
    [],
  ],
  [
    'A link that is up without an address keeps nothing, and one that is gone neither.',
    {
      interfaces: withAddresses('eth2', []).filter(({ name }) => name !== 'eth1'),
      former: former({ eth1: ['10.0.1.11'], eth2: ['10.0.2.11'] }),
    },
    { eth0: ETH0 },
    [],
  ],
  [
    'What was released does not come back by a report alone, but by an administrator’s word.',
    { word: { released: ['10.0.2.11', '192.0.2.11'] } },
    { eth0: ETH0, eth1: ALL.eth1 },
    ['eth2 10.0.2.11: interface.address_released'],
  ],
];

for (const [what, one, names, refused] of CASES) {
  test(what, () => assert.deepEqual(summary(declare(one)), { names, refused }));
}

test('Each refusal says why and what the way out is, and names the host and the address.', () => {
  const interfaces = withAddresses('eth2', ['10.0.2.12', '172.16.0.9', '10.0.2.254', '127.0.0.1']);
  const { refused } = declare({ interfaces, hostName: 'x.example', held: { '10.0.2.12': 'host-2' } });
  assert.equal(refused.length, 5);
  for (const { reason, hint } of refused)
    assert.ok(reason.length > 10 && hint.length > 10, `${reason}; ${hint}`);
  const [conflict] = refused;
  assert.match(conflict?.reason ?? '', /host-2/);
  assert.match(conflict?.hint ?? '', /interface set host-2 INTERFACE --release 10\.0\.2\.12/);
});

test('SECURITY: a host that reports thousands of interfaces and addresses is declared within bounds, its own names first.', () => {
  const interfaces = [
    ...FABRIC,
    ...Array.from({ length: 500 }, (_, index) =>
      testInterface(
        `a${index}`,
        Array.from({ length: 64 }, (__, host) => `10.${index % 256}.${(index >> 8) + 100}.${host + 1}`),
      ),
    ),
  ];
  const settings = roleSettings({ display: ['*'] }, { allowedSubnets: ['10.0.0.0/8'] });
  const word = said('eth2', { dns: ['host-1.console.example'], addresses: ['203.0.113.7'] });
  const declared = declare({ interfaces, settings, word });
  assert.ok(declared.interfaces.length <= 64);
  assert.equal(declared.names.addresses.length, 64);
  assert.equal(declared.refused.length, 128);
  validatorOf(HostDetail.properties.declared)(declared, 'declaration');
  for (const own of ['192.0.2.11', '2001:db8::11']) assert.ok(declared.names.addresses.includes(own), own);
  assert.deepEqual(declared.interfaces[0]?.name, 'eth0');
});

const address = fc.oneof(
  fc.constantFrom(
    '192.0.2.11',
    '2001:db8::11',
    '192.0.2.1',
    '10.0.2.254',
    '10.0.2.12',
    'fd00:1::12',
    '127.0.0.1',
  ),
  fc
    .tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 1, max: 254 }))
    .map(([net, host]) => `10.0.${net}.${host}`),
  fc.nat(0xffff).map((host) => `fd00:${host % 3}::${host.toString(16)}`),
  fc.ipV4(),
  fc.ipV6(),
  fc.stringMatching(/^[0-9a-f:.]{2,20}$/),
);
const networkInterface = fc
  .record({
    name: fc.constantFrom('eth0', 'eth1', 'eth2', 'eth3', 'bond0', 'lo'),
    up: fc.boolean(),
    leftOut: fc.boolean(),
    addresses: fc.array(fc.tuple(address, fc.boolean()), { maxLength: 8 }),
  })
  .map(({ name, up, leftOut, addresses }) => ({
    ...testInterface(name, [], { up, leftOut: leftOut ? 'a tap' : null }),
    addresses: testInterface(
      name,
      addresses.map(([text]) => text),
    ).addresses.map((one, index) => ({
      ...one,
      leftOut: addresses[index]?.[1] === true ? null : one.leftOut,
    })),
  }));
const facts = fc.record({
  interfaces: fc.array(networkInterface, { maxLength: 6 }),
  hostName: fc.constantFrom('host-1', 'a.rack1.example', 'b.example', 'manager.example', 'host-2', ''),
  kept: fc.array(address, { maxLength: 4 }),
  released: fc.array(address, { maxLength: 2 }),
});
const HELD = { '10.0.2.12': 'host-2', 'fd00:1::12': 'host-3', 'host-2': 'host-2' };
const OPEN = ['10.0.1.0/24', 'fd00:1::/64', '10.0.2.0/24'];

test('No report brings a name in that is neither the word nor within what is allowed, nor one of others or of nobody.', () => {
  fc.assert(
    fc.property(facts, ({ interfaces, hostName, kept, released }) => {
      const word = { ...said('eth2', { addresses: ['203.0.113.7'], dns: ['c.example'] }), released };
      const declared = declare({ interfaces, hostName, word, held: HELD, former: former({ eth2: kept }) });
      const subnets = OPEN.map(parseIpSubnet);
      for (const one of declared.names.addresses) {
        const isSaid = [...WORD.accepted, '203.0.113.7'].includes(one);
        const isAllowed = subnets.some((subnet) => !('problem' in subnet) && isInSubnet(subnet, one));
        assert.ok(isSaid || isAllowed, `${one} is nobody's word`);
        assert.ok(!(one in HELD) && !['10.0.2.254', '192.0.2.1'].includes(one), `${one} is another's`);
        assert.equal(one, claimKey(one));
      }
      for (const one of declared.names.dns)
        assert.ok(['host-1', 'a.rack1.example', 'c.example'].includes(one), `${one} is nobody's word`);
      validatorOf(HostDetail.properties.declared)(declared, 'declaration');
    }),
    { numRuns: 500 },
  );
});

test('The same report in another order gives the same declaration, to the byte, and once more from what it gave.', () => {
  fc.assert(
    fc.property(facts, fc.infiniteStream(fc.nat()), ({ interfaces, hostName, kept }, random) => {
      const shuffled = <T>(all: readonly T[]): T[] =>
        all
          .map((one) => ({ one, at: random.next().value as number }))
          .sort((a, b) => a.at - b.at)
          .map(({ one }) => one);
      // Two interfaces of one name are none that a kernel has, and may differ in what they are taken for.
      const distinct = interfaces.filter(
        (one, index) => interfaces.findIndex(({ name }) => name === one.name) === index,
      );
      const other = shuffled(distinct).map((one) => ({ ...one, addresses: shuffled(one.addresses) }));
      const before = former({ eth2: kept });
      const first = declare({ interfaces: distinct, hostName, held: HELD, former: before });
      const second = declare({ interfaces: other, hostName, held: HELD, former: before });
      assert.equal(JSON.stringify(second), JSON.stringify(first));
      const settled = declare({ interfaces: distinct, hostName, held: HELD, former: first });
      const again = declare({ interfaces: other, hostName, held: HELD, former: settled });
      assert.equal(JSON.stringify(again), JSON.stringify(settled));
    }),
    { numRuns: 300 },
  );
});

test('SECURITY: an interface that is called like a command is no command in a hint', () => {
  const on = "x;halt'";
  const settings = roleSettings({ display: ['x*'] });
  const { refused } = declare({ interfaces: [...FABRIC, testInterface(on, ['10.0.9.9'])], settings });
  const hint = refused.find(({ interface: one }) => one === on)?.hint ?? '';
  assert.ok(hint.includes(`interface set host-1 'x;halt'\\'''; or`), hint);
});
