import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import type { ObservedCredential, Proof } from '@virt-trust/contract/model/observed-state.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import { networkLines, proofLines } from './demo-hosts.ts';

const PIN = `sha256:${'A'.repeat(43)}` as NonNullable<Proof['servedPin']>;
const OTHER = `sha256:${'B'.repeat(42)}A` as NonNullable<Proof['servedPin']>;

function proof(target: string, change: Partial<Proof> = {}): Proof {
  return { kind: 'handshake', target, at: 100, by: 'manager', servedPin: PIN, detail: 'TLSv1.3', ...change };
}

function host(change: Partial<ObservedCredential> = {}): HostDetail {
  const credentials = SERVICES.map(
    (service): ObservedCredential => ({
      service,
      generation: 1,
      candidate: null,
      identity: 'ours',
      serialNumber: null,
      pin: PIN,
      notAfter: null,
      phase: 'settled',
      proofs: [proof('a'), proof('b'), proof('c', { by: 'agent', detail: 'TLSv1.2' })],
      failure: null,
      ...(service === 'libvirt' ? change : {}),
    }),
  );
  return { name: 'host-a', observed: { credentials } } as unknown as HostDetail;
}

test('alike proofs share a line, and old ones say when they were made', () => {
  assert.deepEqual(proofLines(host(), 100).slice(0, 2), [
    '  libvirt    manager  TLSv1.3: a, b',
    '             agent    TLSv1.2: c',
  ]);
  assert.equal(proofLines(host(), 101)[0], '  libvirt    manager  TLSv1.3: a, b (at 1970-01-01 00:00Z)');
});

for (const [what, change] of Object.entries({
  'is not settled': { phase: 'failed' },
  'serves what was found': { identity: 'found' },
  'has no proof': { proofs: [] },
  'served another certificate': { proofs: [proof('a', { servedPin: OTHER })] },
  'was not reached by the manager': { proofs: [proof('a', { by: 'agent' })] },
} as const satisfies Record<string, Partial<ObservedCredential>>))
  test(`a service that ${what} is not called proven`, () => {
    assert.throws(
      () => proofLines(host(change as Partial<ObservedCredential>), 0),
      (error) => isTrustError(error, 'start.unproven'),
    );
  });

test('services are told by the interface that they are on', () => {
  const names = (address: string) => ({ dns: ['host-a'], addresses: [address] });
  const endpoints = [
    { service: 'libvirt' as const, interface: 'eth0', names: names('192.0.2.1') },
    { service: 'libvirt' as const, interface: 'eth1', names: names('10.0.1.1') },
    { service: 'migration' as const, interface: 'eth1', names: names('10.0.1.1') },
  ];
  assert.deepEqual(networkLines({ endpoints }), [
    '  networks   eth0     192.0.2.1: libvirt',
    '             eth1     10.0.1.1: libvirt, migration',
  ]);
});
