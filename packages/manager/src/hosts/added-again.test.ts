import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import { keptOf } from './added-again.ts';
import { testHost } from './fixtures.ts';

test('a host that is added for the first time has nothing of before', () => {
  assert.deepEqual(keptOf(null), { grantedGates: [], desiredNumber: 0, revisions: {} });
});

test('SECURITY: a host that was revoked is still so when it is added again, and one without TLS still without', () => {
  const revoked = { at: instant(1), reason: 'keyCompromise', comment: '' } as const;
  const before = { grantedGates: ['plain-tcp-off'], desiredNumber: 7, revisions: { libvirt: 2 } } as const;
  assert.deepEqual(keptOf(testHost('kvm1', { ...before, revoked })), { ...before, revoked });
  assert.deepEqual(keptOf(testHost('kvm1', { ...before, tlsOff: true })), { ...before, tlsOff: true });
});
