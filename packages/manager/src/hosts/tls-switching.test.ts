import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { SettingPlace } from '../settings/setting-store.ts';
import { settledState, testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import { isBehind, TlsSwitching, type TlsSwitchingParts } from './tls-switching.ts';

const GLOBAL: SettingPlace = { scope: 'global', target: '' };

/** A fleet with one value of the setting for all hosts. */
function fleetOf(hosts: Host[], options: { wanted: boolean; away?: string[]; held?: boolean }) {
  const fleet = {
    ...options,
    enqueued: [] as { subject: string; actor: string; locks: readonly string[] }[],
  };
  const find = (id: HostId) => hosts.find((host) => host.id === id) ?? null;
  const parts = {
    context: {
      log: silentLog,
      repository: {
        list: async () => hosts,
        ids: async () => hosts.map(({ id }) => id),
        get: async (id: HostId) => find(id),
      },
      channels: {
        stateOf: (id: HostId) =>
          fleet.away?.includes(find(id)?.name ?? '') === true ? { kind: 'down' } : { kind: 'up' },
      },
      tlsOf: async () => ({ enabled: fleet.wanted, from: 'global' }),
    },
    jobs: {
      enqueue: async (_: unknown, order: { subject: string; actor: string; locks: readonly string[] }) => {
        fleet.enqueued.push(order);
        return { id: `job of ${order.subject}` };
      },
      unfinished: () =>
        fleet.enqueued.map(({ subject, locks }) => ({ locks, job: { id: `job of ${subject}` } })),
    },
    job: { kind: 'tls-switch', run: async () => '' },
    isHeld: async () => fleet.held === true,
  } as unknown as TlsSwitchingParts;
  return { fleet, switching: new TlsSwitching(parts) };
}

test('a host is switched where its TLS is not as the setting has it, and it is managed, trusted and at rest', () => {
  const host = testHost('kvm1');
  const off = testHost('kvm1', {
    tlsOff: true,
    state: 'unsecured',
    observed: settledState('none', { credentials: [] }),
  });
  assert.deepEqual([isBehind(host, true), isBehind(host, false)], [false, true]);
  assert.deepEqual([isBehind(off, true), isBehind(off, false)], [true, false]);
  // A restored store may say that it is off.
  assert.equal(isBehind(testHost('kvm1', { tlsOff: true }), false), true);
  for (const more of [
    { observeOnly: true },
    { state: 'removing' },
    { state: 'enrolling' },
    { observed: null },
    { revoked: { at: instant(0), reason: 'keyCompromise', comment: '' } },
  ] as const)
    assert.equal(isBehind(testHost('kvm1', more), false), false, JSON.stringify(more));
});

test('each host concerned gets one job, in the name of whoever put the setting, eight at once at most', async () => {
  const hosts = Array.from({ length: 9 }, (_, index) => testHost(`kvm${index + 1}`));
  const { fleet, switching } = fleetOf(hosts, { wanted: false });
  const { jobs, warnings } = await switching.settingPut(GLOBAL, 'token:admin');
  assert.equal(jobs.length, 9);
  assert.deepEqual(warnings, []);
  assert.ok(fleet.enqueued.every(({ actor }) => actor === 'token:admin'));
  assert.ok(fleet.enqueued.every(({ subject, locks }) => locks.includes(`host:${subject}`)));
  assert.equal(new Set(fleet.enqueued.map(({ locks }) => locks[1])).size, 8);
  // Put back and forth, the job that waits goes by what holds then.
  assert.deepEqual((await switching.settingPut(GLOBAL, 'token:admin')).jobs, jobs);
  assert.equal(fleet.enqueued.length, 9);
});

test('a setting for a cluster or host concerns its hosts alone', async () => {
  const hosts = [testHost('kvm1'), testHost('kvm2', { cluster: 'c2' }), testHost('kvm3', { cluster: 'c2' })];
  const cluster = fleetOf(hosts, { wanted: false });
  assert.deepEqual((await cluster.switching.settingPut({ scope: 'cluster', target: 'c2' }, 'a')).jobs, [
    'job of kvm2',
    'job of kvm3',
  ]);
  const host = fleetOf(hosts, { wanted: false });
  assert.deepEqual((await host.switching.settingPut({ scope: 'host', target: 'kvm3' }, 'a')).jobs, [
    'job of kvm3',
  ]);
});

test('a host that is away is named, and switched when its channel is up', async () => {
  const [one, two] = [testHost('kvm1'), testHost('kvm2')] as const;
  const { fleet, switching } = fleetOf([one, two], { wanted: false, away: ['kvm2'] });
  const { jobs, warnings } = await switching.settingPut(GLOBAL, 'a');
  assert.deepEqual(
    [jobs, warnings],
    [['job of kvm1'], ['host kvm2 is switched when its channel is up again']],
  );
  await switching.greeted(two.id);
  assert.deepEqual(
    fleet.enqueued.map(({ subject, actor }) => [subject, actor]),
    [
      ['kvm1', 'a'],
      ['kvm2', 'manager'],
    ],
  );
});

test('nothing is switched while the fleet is frozen; once it goes on, everything is', async () => {
  const { fleet, switching } = fleetOf([testHost('kvm1')], { wanted: false, held: true });
  const { jobs, warnings } = await switching.settingPut(GLOBAL, 'a');
  assert.deepEqual(jobs, []);
  assert.match(warnings[0] ?? '', /frozen.*host kvm1 will be switched/);
  await switching.greeted(testHost('kvm1').id);
  assert.deepEqual(fleet.enqueued, []);
  fleet.held = false;
  await switching.resume();
  assert.equal(fleet.enqueued.length, 1);
});
