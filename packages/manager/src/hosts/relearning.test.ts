import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import { desiredStateOf } from './desired-state.ts';
import { NOTHING_FOUND, testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import { relearned } from './relearning.ts';
import { raisedRevisions } from './revisions.ts';

const desiredOf = (host: Host) =>
  desiredStateOf({
    host,
    epoch: 1,
    organization: 'virt-trust',
    keyAlgorithm: 'ecdsa-p256',
    migrationModes: ['tls'],
    tls: 'on' as const,
    migrationWaitSeconds: 3600,
    probeSeconds: 60,
    bundles: { control: 'c', migration: 'm', console: 'v', storage: 's' },
    clientDns: [],
    consoles: 'keep',
    announceTo: [],
  });

const FOUND = {
  ...NOTHING_FOUND,
  identities: ['libvirt', 'migration'],
  authorities: ['libvirt', 'migration', 'vnc'],
  tcpListening: true,
  vms: 1,
} as const;

test('from what was wanted last it is learned which gates were passed, each by itself, and no other', () => {
  const before = testHost('host-1', { found: FOUND });
  for (const gate of ['serve', 'vnc-tls', 'plain-tcp-off', 'retire-found-ca'] as const) {
    const passed = { ...before, grantedGates: [gate] };
    const learned = relearned(before, desiredOf(passed));
    assert.deepEqual(learned.grantedGates, [gate]);
    // And so nothing is taken back.
    assert.deepEqual(desiredOf(learned), desiredOf(passed));
  }
  assert.deepEqual(relearned(before, desiredOf(before)), {
    ...before,
    revisions: relearned(before, desiredOf(before)).revisions,
  });
});

test('a host on which nothing was found passes no gate by what was wanted of it', () => {
  const fresh = testHost('host-1', { found: NOTHING_FOUND });
  assert.deepEqual(relearned(fresh, desiredOf(fresh)).grantedGates, []);
});

test('keys that were asked for after the backup are not asked for again, and new ones are really new', () => {
  const host = testHost('host-1', { revisions: { libvirt: 1 } });
  const since = { ...host, revisions: { libvirt: 5, vnc: 2 } };
  const learned = relearned(host, desiredOf(since));
  assert.equal(learned.revisions.libvirt, 5);
  assert.equal(learned.revisions.vnc, 2);
  const epoch = 1_800_000_000;
  const raised = raisedRevisions(host, SERVICES, epoch);
  for (const service of SERVICES) assert.equal(raised[service], epoch);
  assert.equal(raisedRevisions({ revisions: raised }, ['vnc'], epoch).vnc, epoch + 1);
  assert.deepEqual(raisedRevisions(host, ['libvirt', 'vnc'], 1), { libvirt: 2, vnc: 1 });
});

test('SECURITY: a host that claims numbers nobody gave it uses none up', () => {
  const host = testHost('host-1', { revisions: { libvirt: 3 } });
  for (const claimed of [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - 1, 1e12 + 1, 1e12]) {
    let learned = host;
    for (let time = 0; time < 3; time++) {
      learned = relearned(learned, desiredOf({ ...learned, revisions: { libvirt: claimed, vnc: claimed } }));
      const raised = raisedRevisions(learned, SERVICES, 1);
      for (const service of SERVICES) {
        assert.ok((raised[service] ?? 0) > (learned.revisions[service] ?? 0));
        assert.ok((raised[service] ?? 0) < 2e12);
      }
      learned = { ...learned, revisions: raised };
    }
  }
});
