import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { DeclaredInterface } from '@virt-trust/contract/model/interface.ts';
import { testInterface } from '../hosts/fixtures.ts';
import { type MigrationDestination, type MigrationSide, migrationAddresses } from './addresses.ts';

const names = (addresses: readonly string[], dns: readonly string[] = []): SubjectAltNames => ({
  dns: [...dns],
  addresses: [...addresses],
});

const declared = (name: string, addresses: readonly string[]): DeclaredInterface => ({
  name,
  roles: ['migration'],
  names: names(addresses),
});

const FOUR = '10.0.1.2';
const SIX = 'fd00:1::2';
const MANAGEMENT = '192.0.2.2';

/** A source with both families on eth1, 10.0.1.1/24 and fd00:1::1/64. */
const source = (addresses: readonly string[] = ['10.0.1.1', 'fd00:1::1']): MigrationSide => ({
  host: 'a',
  interfaces: [declared('eth1', addresses)],
  reported: [testInterface('eth1', addresses)],
});

function destination(
  addresses: readonly string[],
  more: Partial<MigrationDestination> = {},
): MigrationDestination {
  const all = names([MANAGEMENT, ...addresses], ['b', 'b.example']);
  return {
    host: 'b',
    interfaces: [declared('eth1', addresses)],
    reported: [testInterface('eth1', addresses)],
    names: all,
    served: { libvirt: all, migration: names(addresses, ['b.example']) },
    ...more,
  };
}

describe('the addresses of a migration', () => {
  const chosen = { interface: 'eth1', tlsDestination: null };
  const all = (address: string) => ({
    libvirtAddress: address,
    migrationAddress: address,
    listenAddress: address,
  });
  const cases: readonly (readonly [
    title: string,
    source: MigrationSide,
    destination: MigrationDestination,
    expected: Partial<ReturnType<typeof migrationAddresses>>,
  ])[] = [
    ['are IPv4 where both hosts have it', source(), destination([SIX, FOUR]), { ...chosen, ...all(FOUR) }],
    ['are IPv6 where the destination has no IPv4', source(), destination([SIX]), { ...chosen, ...all(SIX) }],
    [
      'are IPv6 where the source has no IPv4',
      source(['fd00:1::1']),
      destination([FOUR, SIX]),
      { ...chosen, ...all(SIX) },
    ],
    [
      "count what the source's kernel has, whether it was declared or not",
      { ...source(), interfaces: [declared('eth1', [])] },
      destination([FOUR]),
      all(FOUR),
    ],
    [
      'are in a subnet of the source where there is a choice',
      source(),
      destination(['10.0.7.2', FOUR]),
      all(FOUR),
    ],
    [
      'are what was declared first where all is equal, on whichever interface',
      source(),
      destination([], {
        interfaces: [declared('bond0', ['10.0.1.9']), declared('eth1', [FOUR])],
        reported: [testInterface('bond0', ['10.0.1.9']), testInterface('eth1', [FOUR])],
        served: { libvirt: null, migration: null },
      }),
      { interface: 'bond0', ...all('10.0.1.9') },
    ],
    [
      'are certified ones before others, so that an address that was just added does no harm',
      source(),
      destination(['10.0.1.7', FOUR], {
        served: { libvirt: names([FOUR]), migration: names([FOUR]) },
      }),
      { ...chosen, ...all(FOUR) },
    ],
    [
      'leave listening to the destination in front of NAT: its kernel does not have the address',
      source(),
      destination(['203.0.113.5'], { reported: [testInterface('eth1', [FOUR])] }),
      { migrationAddress: '203.0.113.5', libvirtAddress: '203.0.113.5', listenAddress: null },
    ],
    [
      'leave listening to the destination where its kernel was not asked',
      source(),
      destination([FOUR], { reported: [] }),
      { migrationAddress: FOUR, listenAddress: null },
    ],
    [
      'name a name of the destination to be verified where the certificate lacks the address',
      source(),
      destination([FOUR], {
        served: { libvirt: names([FOUR]), migration: names([], ['other.example', 'B.example']) },
      }),
      { ...all(FOUR), tlsDestination: 'B.example' },
    ],
    [
      "name none where the certificate has no name of the destination's own",
      source(),
      destination([FOUR], { served: { libvirt: names([FOUR]), migration: names([], ['other.example']) } }),
      { tlsDestination: null },
    ],
    [
      "reach libvirt where its certificate says so: its client takes no other name than the URI's",
      source(),
      destination([FOUR], { served: { libvirt: names([MANAGEMENT]), migration: names([FOUR]) } }),
      { migrationAddress: FOUR, libvirtAddress: MANAGEMENT, tlsDestination: null },
    ],
    [
      'trust in what was declared where the certificate is not known',
      source(),
      destination([FOUR], { served: { libvirt: null, migration: null } }),
      { ...all(FOUR), tlsDestination: null },
    ],
    [
      'compare IPv6 addresses, not their spelling',
      source(['fd00:1::1']),
      destination(['FD00:1:0::2'], {
        reported: [testInterface('eth1', [SIX])],
        served: { libvirt: names([SIX]), migration: names([SIX]) },
      }),
      { libvirtAddress: 'FD00:1:0::2', listenAddress: 'FD00:1:0::2', tlsDestination: null },
    ],
  ];
  for (const [title, from, to, expected] of cases)
    it(title, () => {
      const seen = migrationAddresses('vm1', from, to);
      assert.deepEqual({ ...seen, ...expected }, seen);
      assert.deepEqual(migrationAddresses('vm1', from, to), seen);
    });

  it('do not exist where the hosts have no family in common; both sides are named', () => {
    assert.throws(
      () => migrationAddresses('vm1', source(['fd00:1::1']), destination([FOUR])),
      (error) =>
        isTrustError(error, 'migration.no_common_family') &&
        /a has fd00:1::1 on eth1; b has 10\.0\.1\.2 on eth1/.test(error.message),
    );
    assert.throws(
      () => migrationAddresses('vm1', { ...source([]), interfaces: [] }, destination([FOUR])),
      /a has no address on no interface/,
    );
  });

  it('are no link-local or temporary ones of the source', () => {
    const eth1 = testInterface('eth1', ['fe80::1']);
    const from = { host: 'a', interfaces: [declared('eth1', [])], reported: [eth1] };
    assert.throws(() => migrationAddresses('vm1', from, destination([SIX])), /no address family in common/);
  });
});
