import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpOctets } from './ip-address.ts';
import { isInSubnet, parseIpSubnet } from './ip-subnet.ts';

for (const [text, expected] of [
  ['10.0.1.0/24', '10.0.1.0/24'],
  ['0.0.0.0/0', '0.0.0.0/0'],
  ['10.0.1.7/32', '10.0.1.7/32'],
  ['fd00:1:0:0::/64', 'fd00:1::/64'],
  ['FD00::1/128', 'fd00::1/128'],
  ['::/0', '::/0'],
] as const) {
  test(`${text} is the subnet ${expected}.`, () => {
    const parsed = parseIpSubnet(text);
    assert.equal('problem' in parsed ? parsed.problem : parsed.text, expected);
  });
}

for (const [text, problem] of [
  ['10.0.1.7/24', /the subnet is 10\.0\.1\.0\/24/],
  ['fd00::1/64', /the subnet is fd00::\/64/],
  ['10.0.1.0', /not a subnet such as/],
  ['10.0.1.0/33', /from 0 to 32/],
  ['10.0.1.0/-1', /from 0 to 32/],
  ['10.0.1.0/08', /from 0 to 32/],
  ['10.0.1.0/', /from 0 to 32/],
  ['fd00::/129', /from 0 to 128/],
  ['fd00::/64/2', /from 0 to 128/],
  ['fe80::%eth0/64', /not a subnet such as/],
  ['/24', /not a subnet such as/],
  ['', /not a subnet such as/],
] as const) {
  test(`${JSON.stringify(text)} is refused as a subnet, with the reason.`, () => {
    const parsed = parseIpSubnet(text);
    assert.match('problem' in parsed ? parsed.problem : '', problem);
  });
}

test('An address is in a subnet where the kernel of Node says so.', () => {
  const octets = fc.constantFrom(4, 16).chain((length) => {
    const bytes = () => fc.uint8Array({ minLength: length, maxLength: length });
    return fc.record({ address: bytes(), base: bytes(), bits: fc.nat(length * 8), near: fc.boolean() });
  });
  fc.assert(
    fc.property(octets, ({ address, base, bits, near }) => {
      // Half of them share the prefix.
      const network = base.map((octet, index) => octet & maskFor(index, bits));
      const inside = near
        ? address.map((octet, index) => mix(octet, network[index] ?? 0, index, bits))
        : address;
      const family = address.length === 4 ? 'ipv4' : 'ipv6';
      const [text, tried] = [formatIpOctets(network) ?? '', formatIpOctets(inside) ?? ''];
      const parsed = parseIpSubnet(`${text}/${bits}`);
      assert.ok(!('problem' in parsed), text);
      const oracle = new BlockList();
      oracle.addSubnet(text, bits, family);
      // Its list takes mapped addresses for IPv4.
      if (family === 'ipv6' && (tried.startsWith('::ffff:') || text.startsWith('::ffff:'))) return;
      assert.equal(isInSubnet(parsed, tried), oracle.check(tried, family), `${tried} in ${text}/${bits}`);
    }),
  );
});

function maskFor(index: number, bits: number): number {
  const own = Math.min(8, Math.max(0, bits - index * 8));
  return (0xff << (8 - own)) & 0xff;
}

function mix(octet: number, network: number, index: number, bits: number): number {
  const mask = maskFor(index, bits);
  return (network & mask) | (octet & ~mask & 0xff);
}

test('An IPv4 address is in no IPv6 subnet, and what is no address in none.', () => {
  const parsed = parseIpSubnet('::/0');
  assert.ok(!('problem' in parsed));
  for (const text of ['10.0.0.1', '', 'x', '::1%eth0']) assert.equal(isInSubnet(parsed, text), false, text);
});
