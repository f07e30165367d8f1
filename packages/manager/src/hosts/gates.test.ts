import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import { NOTHING_FOUND, settledState, testHost, testInventory } from './fixtures.ts';
import { assertPassable, gateStates, isPassed } from './gates.ts';
import type { FoundFacts, Host } from './host.ts';

const GATES: readonly Gate[] = ['serve', 'vnc-tls', 'plain-tcp-off', 'retire-found-ca'];

function stateOf(host: Host, fleet: readonly Host[], gate: Gate) {
  const state = gateStates(host, fleet).find((one) => one.gate === gate);
  assert.ok(state);
  return state;
}

test('on a fresh host no gate is needed, so everything is turned on at once', () => {
  const host = testHost('host-1');
  assert.deepEqual(
    gateStates(host, [host]).map(({ state }) => state),
    GATES.map(() => 'not-needed'),
  );
  for (const gate of GATES) assert.ok(isPassed(host, gate));
});

test('a host whose first look was never taken has passed nothing', () => {
  for (const gate of GATES) assert.equal(isPassed(testHost('host-1', { found: null }), gate), false);
});

const NEEDS: readonly [Gate, Partial<FoundFacts>][] = [
  ['serve', { identities: ['libvirt'] }],
  ['vnc-tls', { vms: 1, vncTls: false }],
  ['plain-tcp-off', { tcpListening: true }],
  ['retire-found-ca', { authorities: ['migration'] }],
];

for (const [gate, found] of NEEDS) {
  test(`gate ${gate} waits where ${JSON.stringify(found)} was found, and only that gate`, () => {
    const host = testHost('host-1', { found: { ...NOTHING_FOUND, ...found } });
    for (const other of GATES) {
      assert.equal(stateOf(host, [host], other).state, other === gate ? 'waiting' : 'not-needed');
      assert.equal(isPassed(host, other), other !== gate);
    }
    const granted = { ...host, grantedGates: [gate] };
    assert.equal(stateOf(granted, [granted], gate).state, 'granted');
    assert.ok(isPassed(granted, gate));
  });
}

test('VMs under VNC with TLS already need no gate for it', () => {
  const host = testHost('host-1', { found: { ...NOTHING_FOUND, vms: 3, vncTls: true } });
  assert.equal(stateOf(host, [host], 'vnc-tls').state, 'not-needed');
});

test('our certificates are not served while a peer was not seen to trust them', () => {
  const host = testHost('host-1', { found: { ...NOTHING_FOUND, identities: ['libvirt'] } });
  const peer = testHost('host-2', { state: 'enrolling', observed: null });
  assert.match(stateOf(host, [host, peer], 'serve').blockers.join(), /host-2 was not yet seen to trust/);
  assert.deepEqual(stateOf(host, [host, testHost('host-2')], 'serve').blockers, []);
});

test('the found CA stays while any host, this one too, serves a certificate of it', () => {
  const found = { ...NOTHING_FOUND, authorities: ['libvirt' as const] };
  const host = testHost('host-1', { found, observed: settledState('found') });
  assert.match(stateOf(host, [host], 'retire-found-ca').blockers.join(), /this host still serves/);
  const ours = testHost('host-1', { found });
  const peer = testHost('host-2', { observed: settledState('found') });
  assert.match(stateOf(ours, [ours, peer], 'retire-found-ca').blockers.join(), /host-2 still serves/);
});

test('the found CA stays while a VM serves the old certificate', () => {
  const pending = [{ what: 'VNC of elder', why: 'it was started before', action: 'migrate it' }];
  const host = testHost('host-1', {
    found: { ...NOTHING_FOUND, authorities: ['vnc'] },
    observed: settledState('ours', { pending }),
  });
  assert.match(
    stateOf(host, [host], 'retire-found-ca').blockers.join(),
    /VNC of elder: it was started before/,
  );
});

test('whoever is connected and belongs to no managed host is named', () => {
  const connections = [
    { direction: 'client' as const, address: '203.0.113.9', transport: 'tls' as const },
    { direction: 'peer' as const, address: '192.0.2.12', transport: 'tls' as const },
    { direction: 'client' as const, address: '192.0.2.1', transport: 'tls' as const },
  ];
  const host = testHost('host-1', {
    found: { ...NOTHING_FOUND, identities: ['libvirt'] },
    inventory: testInventory({ connections }),
  });
  assert.deepEqual(stateOf(host, [host, testHost('host-2')], 'serve').blockers, [
    '203.0.113.9 may know the found CA alone',
  ]);
});

test('plain TCP stays for a managed host that uses it still', () => {
  const connections = [{ direction: 'client' as const, address: '192.0.2.12', transport: 'tcp' as const }];
  const host = testHost('host-1', {
    found: { ...NOTHING_FOUND, tcpListening: true },
    inventory: testInventory({ connections }),
  });
  assert.deepEqual(stateOf(host, [host, testHost('host-2')], 'plain-tcp-off').blockers, [
    '192.0.2.12 is connected over plain TCP',
  ]);
});

test('a blocked gate opens by force alone, and the refusal names every blocker', () => {
  const state = { gate: 'serve' as const, state: 'waiting' as const, blockers: ['one', 'two'] };
  assert.throws(
    () => assertPassable(state, 'host-1', false),
    (error) => isTrustError(error, 'gate.blocked') && /one; two/.test(error.message),
  );
  assertPassable(state, 'host-1', true);
  assertPassable({ ...state, blockers: [] }, 'host-1', false);
});
