import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { chooseIndex, planInterfaces, planNetworks, rangesInUse, type UsedRange } from './network-plan.ts';

const ipv4 = (address: string, prefixLength: number): UsedRange => ({
  address,
  prefixLength,
  family: 'ipv4',
});
const ipv6 = (address: string, prefixLength: number): UsedRange => ({
  address,
  prefixLength,
  family: 'ipv6',
});

test('no two of all labs share a bridge, a cable or an address', () => {
  const seen = new Set<string>();
  for (let index = 0; index < 32; index++) {
    const networks = planNetworks(index);
    const hosts = [0, 1, 2].flatMap((host) => planInterfaces(index, host, networks));
    const names = [
      ...networks.flatMap((network) => [
        network.bridge,
        network.machineAddress,
        network.machineAddress6,
        ...network.ranges,
      ]),
      ...hosts.flatMap((card) => [card.peer, card.address, card.address6]),
    ];
    for (const name of names) {
      assert.ok(!seen.has(name), `${name} is used twice`);
      seen.add(name);
    }
    // IFNAMSIZ of Linux: 15 characters and the final zero.
    for (const { peer } of hosts) assert.ok(peer.length <= 15, peer);
  }
});

test('an index is free while nobody has an address or route in its ranges', () => {
  assert.equal(chooseIndex(new Set(), [ipv4('192.0.2.0', 24), ipv6('fe80::', 64)]), 0);
  assert.equal(chooseIndex(new Set([0, 1]), []), 2);
});

test('a route inside, equal to or around a range takes its index', () => {
  assert.ok(rangesInUse(0, [ipv4('10.213.3.7', 32)]));
  assert.ok(rangesInUse(0, [ipv4('10.213.0.0', 24)]));
  assert.ok(rangesInUse(0, [ipv4('10.0.0.0', 8)]));
  assert.ok(rangesInUse(0, [ipv6('fd8a:5c31:d07e:1::', 64)]));
  assert.ok(!rangesInUse(0, [ipv4('10.213.8.0', 24)]));
  assert.ok(rangesInUse(1, [ipv4('10.213.8.0', 24)]));
});

test('a default route takes nothing', () => {
  assert.ok(!rangesInUse(0, [ipv4('0.0.0.0', 0), ipv6('::', 0)]));
});

test('a machine that uses the whole range is told so', () => {
  assert.throws(
    () => chooseIndex(new Set(), [ipv4('10.0.0.0', 8)]),
    (error) => isTrustError(error, 'lab.no_network'),
  );
});
