import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseInterfaces } from './interfaces.ts';

/** A link as `ip -j -d addr show` (iproute2 6.1) writes it, with what differs. */
function link(ifname: string, kind: string, more: Record<string, unknown> = {}, ...addresses: object[]) {
  return {
    ifindex: 2,
    ifname,
    flags: ['BROADCAST', 'MULTICAST', 'UP', 'LOWER_UP'],
    mtu: 1500,
    operstate: 'UP',
    link_type: 'ether',
    address: '22:45:08:27:61:25',
    broadcast: 'ff:ff:ff:ff:ff:ff',
    ...(kind === '' ? {} : { linkinfo: { info_kind: kind } }),
    ...more,
    addr_info: addresses,
  };
}

function v4(local: string, prefixlen: number, more: object = {}) {
  return { family: 'inet', local, prefixlen, scope: 'global', valid_life_time: 4294967295, ...more };
}

function v6(local: string, more: object = {}) {
  return { family: 'inet6', local, prefixlen: 64, scope: 'global', valid_life_time: 4294967295, ...more };
}

const parse = (...links: object[]) => parseInterfaces(JSON.stringify(links));

test('what serves clients is told from what ends in a guest, on this host alone, or in a bridge', () => {
  const tap = (name: string, more: object) =>
    link(name, '', { linkinfo: { info_kind: 'tun', info_data: { type: 'tap' } }, ...more });
  const interfaces = parse(
    link('lo', '', { flags: ['LOOPBACK', 'UP', 'LOWER_UP'], operstate: 'UNKNOWN', link_type: 'loopback' }),
    link('eno1', '', { master: 'bond0' }),
    link('bond0', 'bond'),
    link('bond0.100', 'vlan', { link: 'bond0', master: 'br100' }),
    link('bond0.200', 'vlan', { link: 'bond0' }),
    link('br100', 'bridge'),
    // In a container the card is a veth whose other end is elsewhere.
    link('eth0', 'veth', { link_index: 12, link_netnsid: 0 }),
    link('ve0', 'veth', { link: 've1' }),
    tap('vnet0', { master: 'br100' }),
    tap('vnet12', {}),
    tap('tap3f0a1b2c-7d', { master: 'qbr3f0a1b2c-7d' }),
    tap('tun9', { flags: ['POINTOPOINT', 'UP'], operstate: 'UNKNOWN' }),
    link('macvtap0', 'macvtap', { link: 'eno1' }),
    link('mv0', 'macvlan', { link: 'eno1' }),
    link('virbr0', 'bridge'),
    link('virbr0-nic', 'tun', { master: 'virbr0' }),
    link('vrf-mgmt', 'vrf'),
    link('eno2', '', { master: 'vrf-mgmt' }),
    link('eno3', '', { master: 'ovs-system' }),
    link('ovs-system', 'openvswitch'),
  );
  assert.deepEqual(
    interfaces.map(({ name, master, parent, leftOut }) => [name, master, parent, leftOut]),
    [
      ['lo', null, null, 'loopback: this host alone reaches it'],
      ['eno1', 'bond0', null, 'a port of bond bond0: addresses belong on that'],
      ['bond0', null, null, null],
      ['bond0.100', 'br100', 'bond0', 'a port of bridge br100: addresses belong on that'],
      ['bond0.200', null, 'bond0', null],
      ['br100', null, null, null],
      ['eth0', null, null, null],
      ['ve0', null, null, null],
      ['vnet0', 'br100', null, "a guest's network card (tap)"],
      ['vnet12', null, null, "a guest's network card (tap)"],
      ['tap3f0a1b2c-7d', 'qbr3f0a1b2c-7d', null, "a guest's network card (tap)"],
      ['tun9', null, null, null],
      ['macvtap0', null, 'eno1', "a guest's network card (macvtap)"],
      ['mv0', null, 'eno1', null],
      ['virbr0', null, null, "a network of libvirt's own, for guests on this host alone"],
      ['virbr0-nic', 'virbr0', null, "a network of libvirt's own, for guests on this host alone"],
      ['vrf-mgmt', null, null, null],
      ['eno2', null, null, null],
      ['eno3', 'ovs-system', null, 'a port of openvswitch ovs-system: addresses belong on that'],
      ['ovs-system', null, null, null],
    ],
  );
});

test('addresses of which no client is told are listed with the reason, in their canonical form', () => {
  const [card] = parse(
    link(
      'eth0',
      'veth',
      {},
      v4('192.0.2.1', 24, { label: 'eth0' }),
      v4('192.0.2.2', 24, { secondary: true }),
      v4('10.0.0.1', 32, { address: '10.0.0.2' }),
      v4('192.0.2.3', 24, { dynamic: true, valid_life_time: 100, preferred_life_time: 100 }),
      v4('169.254.3.3', 16),
      v4('10.0.0.9', 24, { scope: 'link' }),
      v4('127.0.0.2', 8),
      v4('224.0.0.5', 32),
      v4('255.255.255.255', 32),
      v4('0.0.0.0', 0),
      v6('2001:DB8:0:0:0:0:0:1'),
      v6('fd00::1', { nodad: true }),
      v6('2001:db8:2::5', { dynamic: true, mngtmpaddr: true }),
      v6('2001:db8:2:0:99a2:d51d:503c:b8ee', { temporary: true, dynamic: true }),
      v6('2001:db8:3::5', { deprecated: true, dynamic: true, preferred_life_time: 0 }),
      v6('2001:db8:4::1', { tentative: true }),
      v6('2001:db8:4::2', { tentative: true, optimistic: true }),
      v6('2001:db8:4::3', { tentative: true, dadfailed: true }),
      v6('fe80::2045:8ff:fe27:6125', { scope: 'link' }),
      v6('::1', { prefixlen: 128, scope: 'host' }),
      v6('::ffff:192.0.2.9'),
      v6('::192.0.2.9'),
      v6('::'),
      v6('ff02::1'),
      v6('fec0::1', { scope: 'site' }),
    ),
  );
  const duplicate = 'a duplicate: another machine on the link has it';
  const tentative = 'tentative: whether it is a duplicate is not known yet';
  assert.deepEqual(
    card?.addresses.map(({ address, leftOut }) => [address, leftOut]),
    [
      ['192.0.2.1', null],
      ['192.0.2.2', null],
      ['10.0.0.1', null],
      ['192.0.2.3', null],
      ['169.254.3.3', 'link-local (RFC 3927)'],
      ['10.0.0.9', 'link-local: its scope is the link'],
      ['127.0.0.2', 'this host alone reaches it'],
      ['224.0.0.5', 'no unicast address'],
      ['255.255.255.255', 'no unicast address'],
      ['0.0.0.0', 'unspecified: no address of a machine'],
      ['2001:db8::1', null],
      ['fd00::1', null],
      ['2001:db8:2::5', null],
      ['2001:db8:2:0:99a2:d51d:503c:b8ee', 'temporary: of privacy, gone in a day'],
      ['2001:db8:3::5', null],
      ['2001:db8:4::1', tentative],
      ['2001:db8:4::2', tentative],
      ['2001:db8:4::3', duplicate],
      ['fe80::2045:8ff:fe27:6125', 'link-local (RFC 4291 §2.5.6)'],
      ['::1', 'this host alone reaches it'],
      ['::ffff:c000:209', 'IPv4-mapped: never on a wire'],
      ['::c000:209', 'IPv4-compatible: never on a wire'],
      ['::', 'unspecified: no address of a machine'],
      ['ff02::1', 'no unicast address'],
      ['fec0::1', null],
    ],
  );
  const flags = new Map(card?.addresses.map((each) => [each.address, each]));
  assert.equal(flags.get('2001:db8:2:0:99a2:d51d:503c:b8ee')?.temporary, true);
  assert.equal(flags.get('2001:db8:3::5')?.deprecated, true);
  assert.equal(flags.get('fec0::1')?.scope, 'other');
});

test('RFC 2863 §3.1.14: an interface is up where something can come through', () => {
  const states: [Record<string, unknown>, boolean][] = [
    [{}, true],
    [{ operstate: 'UNKNOWN' }, true],
    [{ operstate: 'DORMANT' }, true],
    [{ operstate: 'DOWN', flags: ['NO-CARRIER', 'UP'] }, false],
    [{ operstate: 'LOWERLAYERDOWN', flags: ['UP'] }, false],
    [{ operstate: 'NOTPRESENT', flags: ['UP'] }, false],
    [{ operstate: 'UNKNOWN', flags: ['NO-CARRIER', 'UP'] }, false],
    [{ operstate: 'DOWN', flags: ['BROADCAST'] }, false],
  ];
  for (const [more, up] of states)
    assert.equal(parse(link('eth0', '', more))[0]?.up, up, JSON.stringify(more));
});

test('with more guests or addresses than are listed, those that serve are listed', () => {
  const taps = Array.from({ length: 600 }, (_, index) => link(`vnet${index}`, 'tun', { master: 'br0' }));
  const many = parse(...taps, link('br0', 'bridge'));
  assert.equal(many.length, 512);
  assert.equal(many.at(-1)?.name, 'br0');
  const temporary = Array.from({ length: 80 }, (_, index) =>
    v6(`2001:db8::${index + 1}`, { temporary: true }),
  );
  const [card] = parse(link('eth0', '', {}, ...temporary, v6('2001:db8::aaaa')));
  assert.equal(card?.addresses.length, 64);
  assert.equal(card?.addresses.at(-1)?.address, '2001:db8::aaaa');
});
