import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { DesiredSettings } from '@virt-trust/contract/model/desired-state.ts';
import type { SettingPlace } from '../settings/setting-store.ts';
import { desiredSettingsOf } from './desired-state.ts';
import { settledState, testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import type { HostSettings } from './ports.ts';
import { SettingsBringing, type SettingsBringingParts, settingsDue } from './settings-bringing.ts';
import { wantedSettings } from './wanted-settings.ts';

const GLOBAL: SettingPlace = { scope: 'global', target: '' };

const SETTINGS: HostSettings = {
  organization: 'virt-trust',
  keyAlgorithm: 'ecdsa-p256',
  migrationModes: ['tls', 'pinned'],
  tls: 'on',
  migrationWaitSeconds: 3600,
  probeSeconds: 60,
  allowedSkewSeconds: 300,
  managerAddresses: [],
  clientCertificateMinutes: 10,
  consoles: 'keep',
};

const contextOf = (settings: HostSettings, port: number | null = null) => ({
  settingsOf: async () => settings,
  announcePort: () => port,
});

/** As the host is once what the settings say was settled on it. */
async function broughtTo(host: Host, settings: HostSettings, port: number | null = null): Promise<Host> {
  const wanted = await wantedSettings(host, contextOf(settings, port));
  return { ...host, observed: settledState('ours', { settings: wanted.settings }) };
}

const dueOf = async (host: Host, settings: HostSettings, port: number | null = null) =>
  settingsDue(host, await wantedSettings(host, contextOf(settings, port)));

/** A fleet that has what settings said, with what they say now. */
async function fleetOf(
  hosts: Host[],
  options: { now: Partial<HostSettings>; away?: string[]; held?: boolean; runs?: string[] },
) {
  const fleet = {
    ...options,
    hosts: await Promise.all(hosts.map((host) => broughtTo(host, SETTINGS))),
    /** What an agent says when it is asked, where that is not what is remembered. */
    says: new Map<string, DesiredSettings>(),
    breaks: false,
    /** What was told of retries. */
    told: [] as string[],
    enqueued: [] as { subject: string; actor: string; locks: readonly string[] }[],
  };
  const find = (id: HostId) => fleet.hosts.find((host) => host.id === id) ?? null;
  const parts = {
    context: {
      log: silentLog,
      repository: {
        list: async () => fleet.hosts,
        ids: async () => fleet.hosts.map(({ id }) => id),
        get: async (id: HostId) => find(id),
      },
      channels: {
        stateOf: (id: HostId) =>
          fleet.away?.includes(find(id)?.name ?? '') === true ? { kind: 'down' } : { kind: 'up' },
        of: async () => ({}),
      },
      observing: {
        refresh: async (id: HostId) => {
          if (fleet.breaks) throw new Error('it hung up');
          const host = find(id);
          const settings = fleet.says.get(host?.name ?? '');
          return settings === undefined ? host : { ...host, observed: settledState('ours', { settings }) };
        },
      },
      ...contextOf({ ...SETTINGS, ...options.now }),
    },
    jobs: {
      enqueue: async (_: unknown, order: { subject: string; actor: string; locks: readonly string[] }) => {
        fleet.enqueued.push(order);
        return { id: `job of ${order.subject}` };
      },
      unfinished: () =>
        fleet.enqueued.map(({ subject, locks }) => ({
          locks,
          job: {
            id: `job of ${subject}`,
            state: fleet.runs?.includes(subject) === true ? 'running' : 'queued',
          },
        })),
    },
    job: { kind: 'host-settings', run: async () => '' },
    retries: {
      failed: (_: HostId, error: unknown) => fleet.told.push(`failed: ${String(error)}`),
      postponed: () => fleet.told.push('postponed'),
      over: () => fleet.told.push('over'),
    },
    isHeld: async () => fleet.held === true,
    signal: new AbortController().signal,
  } as unknown as SettingsBringingParts;
  return { fleet, bringing: new SettingsBringing(parts) };
}

const FORCED = { migrationModes: ['tls'] } as const;

test('each setting that ends in a host is due where the host has another, and says both', async () => {
  const host = await broughtTo(testHost('kvm1'), SETTINGS);
  assert.deepEqual(await dueOf(host, SETTINGS), []);
  for (const [now, words] of [
    [{ tls: 'off' }, /^TLS off, there still: TLS on$/],
    [FORCED, /^migrate_tls_force on, there still: migrate_tls_force as it was found$/],
    [{ migrationWaitSeconds: 1 }, /wait 1 s .*there still: .*wait 3600 s/],
    [{ probeSeconds: 5 }, /every 5 s, there still: .*every 60 s/],
    [{ consoles: 'with-password' }, /^displays with-password, there still: displays as they were found$/],
  ] as const) {
    const due = await dueOf(host, { ...SETTINGS, ...now });
    assert.equal(due.length, 1, due.join());
    assert.match(due[0] ?? '', words);
  }
  // What migrations are decided and certificates are made by is in no host's configuration.
  assert.deepEqual(await dueOf(host, { ...SETTINGS, migrationModes: ['pinned', 'plain'] }), []);
  assert.deepEqual(await dueOf(host, { ...SETTINGS, keyAlgorithm: 'ecdsa-p384' }), []);
});

test('a gate that was not passed keeps migrate_tls_force from an adopted host, so it is not due', async () => {
  const found = testHost('kvm1').found;
  const adopted = testHost('kvm1', { found: found && { ...found, tcpListening: true } });
  const host = await broughtTo(adopted, SETTINGS);
  assert.deepEqual(await dueOf(host, { ...SETTINGS, ...FORCED }), []);
  const passed: Host = { ...host, grantedGates: ['plain-tcp-off'] };
  assert.match(
    (await dueOf(passed, { ...SETTINGS, ...FORCED })).join(),
    /plain TCP off.*migrate_tls_force on/,
  );
});

test('where TLS is off nothing else of the settings is in force, so nothing else is due', async () => {
  const off = { ...SETTINGS, tls: 'off' } as const;
  const known = await broughtTo(testHost('kvm1', { tlsOff: true, state: 'unsecured' }), off);
  const host: Host = { ...known, observed: known.observed && { ...known.observed, credentials: [] } };
  assert.deepEqual(await dueOf(host, { ...off, probeSeconds: 5, consoles: 'with-password' }), []);
  assert.match((await dueOf(host, SETTINGS)).join(), /TLS on, there still: TLS off/);
});

test("a host announces itself where the manager is; the manager's own further addresses are no reason to touch it", async () => {
  const host = await broughtTo(testHost('kvm1'), SETTINGS, 16517);
  const more = (address: string): Host => {
    const settings = host.observed?.settings;
    const announceTo = [...(settings?.announceTo ?? []), { address, port: 16517 }];
    return {
      ...host,
      observed: settledState('ours', settings == null ? {} : { settings: { ...settings, announceTo } }),
    };
  };
  assert.deepEqual(await dueOf(more('127.0.0.1'), SETTINGS, 16517), []);
  assert.match((await dueOf(more('203.0.113.9'), SETTINGS, 16517)).join(), /there still: .*203\.0\.113\.9/);
  const moved = { ...SETTINGS, managerAddresses: ['198.51.100.7'] };
  assert.match(
    (await dueOf(host, moved, 16517)).join(),
    /makes itself known to .*198\.51\.100\.7 port 16517/,
  );
  // While nobody listens.
  assert.deepEqual(await dueOf(more('203.0.113.9'), moved, null), []);
});

test('only a host that is managed, trusted and at rest is brought anything', async () => {
  const host = await broughtTo(testHost('kvm1'), SETTINGS);
  for (const more of [
    { observeOnly: true },
    { state: 'removing' },
    { state: 'enrolling' },
    { observed: null },
    { revoked: { at: instant(0), reason: 'keyCompromise', comment: '' } },
    // What never came to its end is asked for again by whoever asked for it.
    { state: 'failed', observed: settledState('none', { credentials: [], settings: null }) },
  ] as const)
    assert.deepEqual(
      await dueOf({ ...host, ...more }, { ...SETTINGS, probeSeconds: 5 }),
      [],
      JSON.stringify(more),
    );
});

test('TLS is switched where an agent says nothing of settings, and where a restored store remembers it wrongly', async () => {
  const off = { ...SETTINGS, tls: 'off' } as const;
  const says = (more: Partial<Host>) => testHost('kvm1', { observed: settledState('ours'), ...more });
  assert.deepEqual([await dueOf(says({}), SETTINGS), await dueOf(says({}), off)], [[], ['TLS off']]);
  assert.deepEqual(await dueOf(says({ tlsOff: true }), off), ['TLS off']);
  const gone = says({ tlsOff: true, observed: settledState('none', { credentials: [] }) });
  assert.deepEqual([await dueOf(gone, SETTINGS), await dueOf(gone, off)], [['TLS on'], []]);
});

test('each host concerned gets one job, in the name of whoever put the setting, eight at once at most', async () => {
  const hosts = Array.from({ length: 9 }, (_, index) => testHost(`kvm${index + 1}`));
  const { fleet, bringing } = await fleetOf(hosts, { now: FORCED });
  const { jobs, warnings } = await bringing.settingPut(GLOBAL, 'token:admin');
  assert.equal(jobs.length, 9);
  assert.deepEqual(warnings, []);
  assert.ok(fleet.enqueued.every(({ actor }) => actor === 'token:admin'));
  assert.ok(fleet.enqueued.every(({ subject, locks }) => locks.includes(`host:${subject}`)));
  assert.equal(new Set(fleet.enqueued.map(({ locks }) => locks[1])).size, 8);
  // Put back and forth, the job that waits goes by what holds then.
  assert.deepEqual((await bringing.settingPut(GLOBAL, 'token:admin')).jobs, jobs);
  assert.equal(fleet.enqueued.length, 9);
});

test('a job that runs may have looked for the last time, so another one follows it', async () => {
  const { fleet, bringing } = await fleetOf([testHost('kvm1')], { now: FORCED, runs: ['kvm1'] });
  await bringing.settingPut(GLOBAL, 'a');
  await bringing.settingPut(GLOBAL, 'a');
  assert.equal(fleet.enqueued.length, 2);
});

test('a setting for a cluster or host concerns its hosts alone', async () => {
  const hosts = [testHost('kvm1'), testHost('kvm2', { cluster: 'c2' }), testHost('kvm3', { cluster: 'c2' })];
  const cluster = await fleetOf(hosts, { now: FORCED });
  assert.deepEqual((await cluster.bringing.settingPut({ scope: 'cluster', target: 'c2' }, 'a')).jobs, [
    'job of kvm2',
    'job of kvm3',
  ]);
  const host = await fleetOf(hosts, { now: FORCED });
  assert.deepEqual((await host.bringing.settingPut({ scope: 'host', target: 'kvm3' }, 'a')).jobs, [
    'job of kvm3',
  ]);
});

test('a host that is away is named, and brought its settings when its channel is up', async () => {
  const [one, two] = [testHost('kvm1'), testHost('kvm2')] as const;
  const { fleet, bringing } = await fleetOf([one, two], { now: { tls: 'off' }, away: ['kvm2'] });
  const { jobs, warnings } = await bringing.settingPut(GLOBAL, 'a');
  assert.deepEqual(
    [jobs, warnings],
    [['job of kvm1'], ['it reaches host kvm2 when its channel is up again']],
  );
  await bringing.greeted(two.id);
  assert.deepEqual(
    fleet.enqueued.map(({ subject, actor }) => [subject, actor]),
    [
      ['kvm1', 'a'],
      ['kvm2', 'manager'],
    ],
  );
});

test('a host to which a job of before goes on is left to it, and is brought what is put meanwhile by one after it', async () => {
  const host = testHost('kvm1');
  const { fleet, bringing } = await fleetOf([host], { now: FORCED, runs: ['kvm1'] });
  await bringing.settingPut(GLOBAL, 'a');
  await bringing.greeted(host.id);
  assert.equal(fleet.enqueued.length, 1);
  fleet.away = ['kvm1'];
  const { jobs, warnings } = await bringing.settingPut(GLOBAL, 'a');
  assert.deepEqual([jobs, warnings], [['job of kvm1'], []]);
  assert.equal(fleet.enqueued.length, 2);
});

test('a host that comes up is held against what its agent says that it has, not against what is remembered', async () => {
  const host = testHost('kvm1');
  const { fleet, bringing } = await fleetOf([host], { now: {} });
  await bringing.greeted(host.id);
  assert.deepEqual(fleet.enqueued, []);
  const { settings } = await wantedSettings(host, contextOf({ ...SETTINGS, ...FORCED }));
  assert.deepEqual(
    settings,
    desiredSettingsOf({ ...SETTINGS, ...FORCED, host, clientDns: [], announceTo: [] }),
  );
  fleet.says.set('kvm1', settings);
  await bringing.greeted(host.id);
  assert.equal(fleet.enqueued.length, 1);
});

test('nothing is brought while the fleet is frozen; once it goes on, everything is', async () => {
  const { fleet, bringing } = await fleetOf([testHost('kvm1')], { now: { tls: 'off' }, held: true });
  const { jobs, warnings } = await bringing.settingPut(GLOBAL, 'a');
  assert.deepEqual(jobs, []);
  assert.match(warnings[0] ?? '', /frozen.*it reaches host kvm1 once that is over/);
  await bringing.greeted(testHost('kvm1').id);
  assert.deepEqual(fleet.enqueued, []);
  fleet.held = false;
  await bringing.resume();
  assert.equal(fleet.enqueued.length, 1);
});

test('when it is time to try again a host that is still behind gets a job, one that is not is left', async () => {
  const host = testHost('kvm1');
  const { fleet, bringing } = await fleetOf([host], { now: FORCED });
  await bringing.again(host.id);
  assert.deepEqual(
    fleet.enqueued.map(({ subject, actor }) => [subject, actor]),
    [['kvm1', 'manager']],
  );
  const { settings } = await wantedSettings(host, contextOf({ ...SETTINGS, ...FORCED }));
  fleet.enqueued = [];
  fleet.says.set('kvm1', settings);
  await bringing.again(host.id);
  assert.deepEqual([fleet.enqueued, fleet.told], [[], ['over']]);
});

test('a host that is away when it is time waits for its channel, one that another job works on for the next time', async () => {
  const host = testHost('kvm1');
  const away = await fleetOf([host], { now: FORCED, away: ['kvm1'] });
  await away.bringing.again(host.id);
  assert.deepEqual([away.fleet.enqueued, away.fleet.told], [[], []]);
  const busy = await fleetOf([host], { now: FORCED, runs: ['kvm1'] });
  await busy.bringing.settingPut(GLOBAL, 'a');
  await busy.bringing.again(host.id);
  assert.deepEqual([busy.fleet.enqueued.length, busy.fleet.told], [1, ['over', 'postponed']]);
});

test('a host that cannot be asked what it has is asked again', async () => {
  const { fleet, bringing } = await fleetOf([testHost('kvm1')], { now: FORCED });
  fleet.breaks = true;
  await bringing.greeted(testHost('kvm1').id);
  assert.deepEqual([fleet.enqueued, fleet.told], [[], ['failed: Error: it hung up']]);
});
