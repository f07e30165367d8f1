import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { planMigration } from '@virt-trust/contract/manager/migration-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationMode, MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import { canBootLab } from '../src/capability.ts';
import { findIntact, type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { Fleet } from './fleet.ts';
import { endMigrations, endVms, setRight } from './leftovers.ts';
import {
  cancelled,
  jobFigure,
  migrate,
  type QemuSight,
  qemuSight,
  vmState,
  whileRunning,
} from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const GUEST: Guest = { name: 'guest', memoryMiB: 64, dirtyMiBPerSecond: 12 };
/** Writes faster than what it is given takes. */
const BUSY: Guest = { name: 'busy', memoryMiB: 64, dirtyMiBPerSecond: 48 };
const SLOW = { bandwidthMiB: 1 };
/** As fast as the network goes. */
const UNLIMITED = '8796093022207';
const AUTO_CONVERGE_FLAG = 1 << 13;

/** What each option looks like in QEMU on the source. */
const SEEN: readonly (readonly [wish: MigrationWish, sign: (sight: QemuSight) => boolean])[] = [
  [
    { bandwidthMiB: 3 },
    ({ parameters }) => parameters.get('max-bandwidth') === `${3 * 2 ** 20} bytes/second`,
  ],
  [{ downtimeMs: 77 }, ({ parameters }) => parameters.get('downtime-limit') === '77 ms'],
  [
    { parallel: 3 },
    ({ capabilities, parameters }) =>
      capabilities.get('multifd') === 'on' && parameters.get('multifd-channels') === '3',
  ],
  [{ compression: 'xbzrle' }, ({ capabilities }) => capabilities.get('xbzrle') === 'on'],
  [{ compression: 'mt' }, ({ capabilities }) => capabilities.get('compress') === 'on'],
  [{ autoConverge: true }, ({ capabilities }) => capabilities.get('auto-converge') === 'on'],
  [{ flags: AUTO_CONVERGE_FLAG }, ({ capabilities }) => capabilities.get('auto-converge') === 'on'],
];

/** A setting, its value, and what becomes of the options by it. */
const SETTINGS: readonly (readonly [
  setting: string,
  value: boolean | number | string,
  option: MigrationWish,
])[] = [
  ['migration.live', false, { live: false }],
  // Of VMs that are off alone: this one runs.
  ['migration.offline', true, { offline: false }],
  ['migration.persistent', true, { persistent: true }],
  ['migration.undefine_source', true, { undefineSource: true }],
  ['migration.copy_storage', 'all', { copyStorage: 'all' }],
  ['migration.parallel', 5, { parallel: 5 }],
  ['migration.post_copy', true, { postCopy: true }],
  ['migration.compression', 'xbzrle', { compression: 'xbzrle' }],
  ['migration.auto_converge', true, { autoConverge: true }],
  ['migration.bandwidth_mib', 9, { bandwidthMiB: 9 }],
  ['migration.downtime_ms', 99, { downtimeMs: 99 }],
  ['migration.timeout_seconds', 600, { timeoutSeconds: 600 }],
  ['migration.timeout_action', 'suspend', { timeoutAction: 'suspend' }],
  ['migration.flags', AUTO_CONVERGE_FLAG, { flags: AUTO_CONVERGE_FLAG, autoConverge: true }],
];

describe('options of a migration, as QEMU has them', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-options-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    await receiveGuest(b, GUEST);
  });
  beforeEach(async () => {
    if ((await vmState(a, 'guest')) === 'running') return;
    await endVms(a, b);
    await startGuest(a, GUEST);
  });
  // What a step that failed left behind is nothing to the next.
  afterEach(() =>
    setRight(
      () => endMigrations(fleet),
      () => a.exec(['virsh', 'destroy', 'busy']),
      () => endVms(b),
      async () => {
        for (const { setting, query } of [...changed.values()]) await set(setting, null, query);
      },
    ),
  );
  after(() => fleet?.[Symbol.asyncDispose]());

  const wanted = (mode: MigrationMode, wish: MigrationWish): MigrateVm => ({
    vm: 'guest',
    from: 'host-a',
    to: 'host-b',
    mode: [mode],
    ...wish,
  });

  /** Settings that are not at their defaults. */
  const changed = new Map<string, { readonly setting: string; readonly query: object }>();
  const set = async (setting: string, value: boolean | number | string | null, query: object = {}) => {
    const key = JSON.stringify([setting, query]);
    changed.set(key, { setting, query });
    await fleet.client.call(putSetting, { params: { setting }, query, body: { value } });
    if (value === null) changed.delete(key);
  };

  for (const mode of ['tls', 'pinned'] as const) {
    for (const [wish, sign] of SEEN) {
      it(`${mode}: ${JSON.stringify(wish)} is seen in QEMU, and a cancelled migration leaves the VM where it was`, async () => {
        const job = await migrate(fleet, wanted(mode, { ...SLOW, ...wish }));
        const looked: QemuSight[] = [];
        await whileRunning(fleet, job, `see ${JSON.stringify(wish)} in QEMU`, async () => {
          const sight = await qemuSight(a, 'guest');
          looked.push(sight);
          return sign(sight) ? true : undefined;
        });
        assert.equal(looked.at(-1)?.parameters.get('tls-creds') !== "''", mode === 'tls');
        await cancelled(fleet, job, GUEST, a, b);
      });
    }

    it(`${mode}: a VM that writes faster than it is sent is slowed down with auto-converge`, async () => {
      await startGuest(a, BUSY);
      await receiveGuest(b, BUSY);
      // So slow that it takes a minute from the first to the last step of the throttle.
      const wish = { bandwidthMiB: 12, autoConverge: true, downtimeMs: 1 };
      const job = await migrate(fleet, { ...wanted(mode, wish), vm: 'busy' });
      const throttle = await whileRunning(fleet, job, 'see the throttle', async () => {
        const percent = await jobFigure(a, 'busy', 'auto_converge_throttle');
        return percent > 0 ? percent : undefined;
      });
      assert.ok(throttle >= 20, `${throttle} %`);
      await cancelled(fleet, job, BUSY, a, b);
    });

    it(`${mode}: compression that this libvirt does not know is refused with the version that does`, async () => {
      const job = await migrate(fleet, wanted(mode, { compression: 'zstd', parallel: 2 }));
      await assert.rejects(fleet.finished(job), /9\.4/);
      assert.equal(await vmState(a, 'guest'), 'running');
    });

    it(`${mode}: progress is told through the API while it runs, and the VM arrives whole`, async () => {
      // So little more than what the VM writes that it takes half a minute.
      const job = await migrate(fleet, wanted(mode, { bandwidthMiB: 14 }));
      const progress = await whileRunning(fleet, job, 'see every field of progress', ({ progress: now }) =>
        now != null &&
        (now.iteration ?? 0) > 1 &&
        ![now.dirtyBytesPerSecond, now.expectedDowntimeMs, now.estimatedSeconds].includes(null)
          ? now
          : undefined,
      );
      // Where it is over already, there is nothing to let go.
      await a.exec(['virsh', 'migrate-setspeed', 'guest', UNLIMITED]);
      assert.equal(progress.stage, 'pre-copy');
      assert.ok((progress.memory?.totalBytes ?? 0) >= 64 * 2 ** 20, JSON.stringify(progress));
      assert.ok((progress.memory?.processedBytes ?? 0) > 48 * 2 ** 20, JSON.stringify(progress));
      assert.equal(progress.disk, null);
      assert.ok(
        progress.bytesPerSecond > 2 ** 20 && progress.bytesPerSecond < 64 * 2 ** 20,
        JSON.stringify(progress),
      );
      assert.ok(
        (progress.estimatedSeconds ?? -1) >= 0 && progress.elapsedMs > 1000,
        JSON.stringify(progress),
      );
      await fleet.finished(job);
      assert.equal(await vmState(b, 'guest'), 'running');
      await findIntact(b, GUEST);
      await fleet.finished(await migrate(fleet, { ...wanted(mode, {}), from: 'host-b', to: 'host-a' }));
      await findIntact(a, GUEST);
    });
  }

  it('has defaults, and each setting is an option of every migration; the nearest scope wins', async () => {
    const plan = async () => (await fleet.client.call(planMigration, { body: wanted('tls', {}) })).options;
    assert.deepEqual(await plan(), testMigrationOptions());
    for (const [setting, value, option] of SETTINGS) {
      await set(setting, value, { host: 'host-a' });
      assert.deepEqual(await plan(), testMigrationOptions(option));
      await set(setting, null, { host: 'host-a' });
    }
    await set('migration.bandwidth_mib', 7);
    await set('migration.bandwidth_mib', 8, { cluster: 'default' });
    assert.equal((await plan()).bandwidthMiB, 8);
    await set('migration.bandwidth_mib', 9, { host: 'host-a' });
    assert.equal((await plan()).bandwidthMiB, 9);
    for (const query of [{}, { cluster: 'default' }, { host: 'host-a' }])
      await set('migration.bandwidth_mib', null, query);
    assert.deepEqual(await plan(), testMigrationOptions());
  });

  it('takes settings of the source for what QEMU is told, and what is said for one migration before them', async () => {
    const settings = {
      bandwidth_mib: 5,
      downtime_ms: 88,
      parallel: 3,
      auto_converge: true,
    };
    for (const [name, value] of Object.entries(settings))
      await set(`migration.${name}`, value, { host: 'host-a' });
    const seen = async (wish: MigrationWish, sign: (sight: QemuSight) => boolean) => {
      const job = await migrate(fleet, wanted('pinned', wish));
      await whileRunning(fleet, job, 'see the settings in QEMU', async () =>
        sign(await qemuSight(a, 'guest')) ? true : undefined,
      );
      await cancelled(fleet, job, GUEST, a, b);
    };
    await seen(
      {},
      ({ capabilities, parameters }) =>
        capabilities.get('auto-converge') === 'on' &&
        parameters.get('max-bandwidth') === `${5 * 2 ** 20} bytes/second` &&
        parameters.get('downtime-limit') === '88 ms' &&
        parameters.get('multifd-channels') === '3',
    );
    await seen(
      { parallel: 0, bandwidthMiB: 6 },
      ({ capabilities, parameters }) =>
        capabilities.get('multifd') === 'off' &&
        capabilities.get('auto-converge') === 'on' &&
        parameters.get('max-bandwidth') === `${6 * 2 ** 20} bytes/second`,
    );
    for (const name of Object.keys(settings)) await set(`migration.${name}`, null, { host: 'host-a' });
  });
});
