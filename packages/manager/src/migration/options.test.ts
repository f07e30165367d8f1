import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import { MigrationOptions, type MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';
import type { SettingName } from '../settings/definitions.ts';
import { Settings } from '../settings/settings.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteSettingStore } from '../store/setting-store.ts';
import { optionsFor } from './options.ts';

const SOURCE = { name: 'kvm1', cluster: 'rack1' };

describe('how a VM is migrated', () => {
  it('is as the settings have it where nothing was asked for', async (t) => {
    const options = await optionsFor({}, SOURCE, settingsOn(t));
    assert.deepEqual(validatorOf(MigrationOptions)(options, 'options'), testMigrationOptions());
  });

  it("takes the source's own settings before its cluster's, and what was asked for before both", async (t) => {
    const settings = settingsOn(t);
    const put = (name: SettingName, value: number, scope: 'cluster' | 'host', target: string) =>
      settings.put(name, value, { scope, target }, 'test');
    await put('migration.bandwidth_mib', 100, 'cluster', 'rack1');
    await put('migration.bandwidth_mib', 200, 'host', 'kvm1');
    await put('migration.parallel', 4, 'cluster', 'rack1');
    await put('migration.downtime_ms', 500, 'host', 'kvm9');
    const options = await optionsFor({ parallel: 2 }, SOURCE, settings);
    assert.deepEqual([options.bandwidthMiB, options.parallel, options.downtimeMs], [200, 2, 0]);
  });

  it('moves the definition of a VM that is off whatever the settings say of its memory', async (t) => {
    const settings = settingsOn(t);
    await settings.put('migration.parallel', 4, { scope: 'global', target: '' }, 'test');
    const options = await optionsFor({ offline: true }, SOURCE, settings);
    assert.deepEqual([options.persistent, options.parallel], [true, 0]);
  });

  it('takes the definition alone of a VM that is off where the setting says so, and lets one that runs be', async (t) => {
    const settings = settingsOn(t);
    const global = { scope: 'global', target: '' } as const;
    const never = () => assert.fail('nobody has to look');
    assert.equal((await optionsFor({}, SOURCE, settings, never)).offline, false);
    await settings.put('migration.offline', true, global, 'test');
    await settings.put('migration.parallel', 4, global, 'test');
    const off = await optionsFor({}, SOURCE, settings, async () => true);
    assert.deepEqual([off.offline, off.persistent, off.parallel], [true, true, 0]);
    const runs = await optionsFor({ postCopy: false }, SOURCE, settings, async () => false);
    assert.deepEqual([runs.offline, runs.persistent, runs.parallel], [false, false, 4]);
    // What is said for one migration wins, and of a pair without a VM nothing is off.
    assert.equal((await optionsFor({ offline: false }, SOURCE, settings, never)).offline, false);
    assert.equal((await optionsFor({}, SOURCE, settings)).offline, false);
    await assert.rejects(
      optionsFor({ copyStorage: 'all' }, SOURCE, settings, async () => true),
      (error) =>
        isTrustError(error, 'migration.options') &&
        /--offline \(offline, by setting migration\.offline of the fleet\) and --copy-storage all/.test(
          error.message,
        ),
    );
  });

  it('counts raw flags that are options by another name as these options', async (t) => {
    const { live, persistDestination, undefineSource, nonSharedDisk, nonSharedIncremental, autoConverge } =
      MIGRATE_FLAGS;
    const cases: readonly (readonly [flags: number, Partial<MigrationOptions>])[] = [
      [live, { live: true }],
      [persistDestination | undefineSource, { persistent: true, undefineSource: true }],
      [nonSharedDisk, { copyStorage: 'all' }],
      [nonSharedIncremental, { copyStorage: 'inc' }],
      [autoConverge, { autoConverge: true }],
    ];
    for (const [flags, meant] of cases) {
      const options = await optionsFor({ flags }, SOURCE, settingsOn(t));
      assert.deepEqual(options, { ...testMigrationOptions(), flags, ...meant });
    }
  });

  it('says whose word it is where a setting and a request exclude each other', async (t) => {
    const settings = settingsOn(t);
    await settings.put('migration.parallel', 4, { scope: 'cluster', target: 'rack1' }, 'test');
    await assert.rejects(optionsFor({ postCopy: true }, SOURCE, settings), (error) => {
      assert.ok(isTrustError(error, 'migration.options'));
      assert.equal(
        error.message,
        'cannot migrate with --post-copy and --parallel 4 (parallel, by setting migration.parallel of cluster rack1): post-copy and parallel connections exclude each other: QEMU would lose pages',
      );
      assert.match(error.hint ?? '', /--parallel 0/);
      return true;
    });
  });

  const refused: readonly (readonly [string, MigrationWish])[] = [
    ['post-copy of a VM that stands still', { postCopy: true, live: false }],
    ['post-copy over parallel connections', { postCopy: true, parallel: 2 }],
    [
      'post-copy at the end of its time over parallel connections',
      { timeoutSeconds: 9, timeoutAction: 'post-copy', parallel: 2 },
    ],
    ['post-copy with compression', { postCopy: true, compression: 'xbzrle' }],
    ['zstd over one connection', { compression: 'zstd' }],
    ['xbzrle over parallel connections', { compression: 'xbzrle', parallel: 2 }],
    ['mt over parallel connections', { compression: 'mt', parallel: 2 }],
    ['suspending what stands still', { live: false, timeoutSeconds: 9, timeoutAction: 'suspend' }],
    ['disks that are named and not copied', { copyDisks: ['vda'] }],
    ['what is done after a time that there is not', { timeoutAction: 'suspend' }],
    [
      'disks copied whole and by difference',
      { copyStorage: 'all', flags: MIGRATE_FLAGS.nonSharedIncremental },
    ],
    ['disks of a VM that is off', { offline: true, copyStorage: 'all' }],
    ['a VM that is off and would be defined nowhere', { offline: true, persistent: false }],
    ['post-copy of a VM that is off', { offline: true, postCopy: true }],
    ['parallel connections for a VM that is off', { offline: true, parallel: 2 }],
    ['flags that libvirt does not know', { flags: 1 << 30 }],
    ['a migration from libvirtd to libvirtd', { flags: MIGRATE_FLAGS.peerToPeer }],
    ['a tunnel of libvirt', { flags: MIGRATE_FLAGS.tunnelled }],
    ['a VM that is off by a flag', { flags: MIGRATE_FLAGS.offline }],
    ['TLS by a flag', { flags: MIGRATE_FLAGS.tls }],
    ['taking up a post-copy that failed', { flags: MIGRATE_FLAGS.postCopyResume }],
    ['post-copy that leaves the VM paused', { postCopy: true, flags: MIGRATE_FLAGS.paused }],
    ['parallel connections without a number', { flags: MIGRATE_FLAGS.parallel }],
    ['zero-copy with compression', { flags: MIGRATE_FLAGS.zeroCopy, parallel: 2, compression: 'zstd' }],
    ['synchronous writes to disks that are not copied', { flags: MIGRATE_FLAGS.nonSharedSynchronousWrites }],
  ];
  for (const [what, wish] of refused)
    it(`refuses ${what} before anything is begun`, async (t) => {
      await assert.rejects(
        optionsFor(wish, SOURCE, settingsOn(t)),
        (error) => isTrustError(error, 'migration.options') && error.hint !== undefined,
      );
    });

  it('lets through what goes together', async (t) => {
    for (const wish of [
      { postCopy: true, copyStorage: 'all', copyDisks: ['vda'] },
      { parallel: 4, compression: 'zstd', autoConverge: true },
      { compression: 'xbzrle' },
      { offline: true, undefineSource: true },
      { live: false, timeoutSeconds: 10 },
      { flags: MIGRATE_FLAGS.unsafe | MIGRATE_FLAGS.paused },
    ] satisfies MigrationWish[])
      await optionsFor(wish, SOURCE, settingsOn(t));
    const settings = settingsOn(t);
    // For the time that another migration is given.
    await settings.put('migration.timeout_action', 'post-copy', { scope: 'global', target: '' }, 'test');
    await optionsFor({ parallel: 2 }, SOURCE, settings);
  });
});

function settingsOn(t: Parameters<typeof temporaryStore>[0]): Settings {
  const clock = settableClock();
  return new Settings(new SqliteSettingStore(temporaryStore(t, clock).database, clock));
}
