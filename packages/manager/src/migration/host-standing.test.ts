import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import { settledState, testHost, testInventory, testLibvirt } from '../hosts/fixtures.ts';
import type { PairAddresses } from './chosen-addresses.ts';
import { hostStanding, standingFindings } from './host-standing.ts';
import type { MigrationEnd } from './migration-end.ts';

const NOW = instant(1_000_000);

interface Peculiar {
  readonly observed?: Partial<ObservedState>;
  readonly libvirt?: Partial<{ version: string; running: boolean; hostUuid: string }> | null;
  readonly qemu?: string;
  readonly isUp?: boolean;
  readonly names?: SubjectAltNames | null;
}

/** How a host stands that differs from a sound one in this alone. */
async function standing(name: string, peculiar: Peculiar = {}) {
  const { observed, libvirt, qemu = '7.2.22', isUp = true } = peculiar;
  const end: MigrationEnd = {
    kind: 'managed',
    name,
    host: testHost(name, {
      observed: settledState('ours', observed),
      inventory: testInventory({
        libvirt: libvirt === null ? null : testLibvirt({ hostUuid: name, ...libvirt }),
        qemu: { version: qemu, user: 'libvirt-qemu', group: 'kvm' },
      }),
    }),
  };
  const names = peculiar.names === undefined ? { dns: ['B'], addresses: ['192.0.2.12'] } : peculiar.names;
  return await hostStanding(end, { now: NOW, certificates: { namesOf: async () => names }, isUp });
}

const ADDRESSES: PairAddresses = {
  libvirtAddress: '192.0.2.12',
  migrationAddress: '192.0.2.12',
  listenAddress: null,
  tlsDestination: null,
  interface: 'eth0',
  sourceAddress: '192.0.2.11',
};

const served = (state: 'drifted' | 'unreachable') => ({
  service: 'libvirt' as const,
  target: '192.0.2.12:16514',
  vm: null,
  expectedPin: 'x',
  servedPin: null,
  state,
  detail: '',
  action: '',
  since: 0,
  at: 0,
});

const crl = (nextUpdate: number, failure: string | null = null) => ({
  purpose: 'migration' as const,
  issuer: 'CN=CA',
  number: '1',
  thisUpdate: 0,
  nextUpdate,
  entries: 0,
  installedAt: 0,
  failure,
});

const expired = settledState('ours').credentials.map((one) => ({ ...one, notAfter: NOW - 1 }));

describe('a pair of hosts by what both reported', () => {
  const cases: readonly (readonly [
    title: string,
    source: Peculiar,
    destination: Peculiar,
    expected: readonly string[],
    more?: { mode?: 'tls' | 'pinned'; addresses?: Partial<PairAddresses> },
  ])[] = [
    ['has nothing against it', {}, {}, []],
    ['has both agents up', {}, { isUp: false }, ['error agent.unreachable b']],
    ['has libvirt up', { libvirt: { running: false } }, {}, ['error libvirt.down a']],
    ['has libvirt', {}, { libvirt: null }, ['error libvirt.down b']],
    [
      'are two',
      { libvirt: { hostUuid: 'x' } },
      { libvirt: { hostUuid: 'x' } },
      ['error host.same_uuid null'],
    ],
    [
      'has certificates in time',
      {},
      { observed: { credentials: expired } },
      ['error certificate.expired b', 'error certificate.expired b'],
    ],
    ['needs none in mode pinned', {}, { observed: { credentials: expired } }, [], { mode: 'pinned' }],
    ['serves what it should', {}, { observed: { served: [served('drifted')] } }, ['warning served.other b']],
    ['serves at all', {}, { observed: { served: [served('unreachable')] } }, ['error served.other b']],
    ['has CRLs in time', { observed: { crls: [crl(NOW - 1)] } }, {}, ['warning crl.stale a']],
    ['has CRLs in use', { observed: { crls: [crl(NOW + 1, 'no')] } }, {}, ['warning crl.stale a']],
    ['has CRLs', { observed: { crls: [crl(NOW + 1)] } }, {}, []],
    [
      'serves no makeshift',
      {},
      { observed: { rescues: [{ service: 'migration', reason: 'expired', at: 0 }] } },
      ['error host.rescued b'],
    ],
    ['goes to no older QEMU', {}, { qemu: '7.2.9' }, ['warning version.older b']],
    ['goes to a newer one', {}, { qemu: '10.0.0' }, []],
    ['goes to no older libvirt', { libvirt: { version: '10.1.0' } }, {}, ['warning version.older b']],
    [
      'has the names by which it is reached',
      {},
      { names: { dns: [], addresses: ['192.0.2.99'] } },
      ['error name.mismatch b', 'error name.mismatch b'],
    ],
    [
      'may have another name for QEMU',
      {},
      {},
      [],
      { addresses: { migrationAddress: '192.0.2.99', tlsDestination: 'b' } },
    ],
    [
      'may have names that are not known',
      {},
      { names: null },
      [],
      { addresses: { libvirtAddress: '192.0.2.99' } },
    ],
  ];
  for (const [title, source, destination, expected, { mode = 'tls', addresses = {} } = {}] of cases)
    it(title, async () => {
      const found = standingFindings(mode, await standing('a', source), await standing('b', destination), {
        ...ADDRESSES,
        ...addresses,
      });
      assert.deepEqual(
        found.map(({ severity, code, host }) => `${severity} ${code} ${host}`),
        expected,
      );
      assert.ok(found.every(({ what, fix }) => what !== '' && fix !== ''));
    });
});
