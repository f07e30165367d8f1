import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { HOUR, instant, MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { RunningMigration } from '../services/running-migrations.ts';
import { barrierOf } from '../sets/barrier.ts';
import { agentPaths } from '../state/paths.ts';
import { JournaledEngine } from './engine.ts';
import { Bell, manage } from './fixture-manager.ts';
import {
  desiredState,
  FileEffects,
  makeAuthority,
  makeHost,
  served,
  type TestAuthority,
} from './fixtures.ts';
import { planRemoval } from './plan.ts';

const OUT: RunningMigration = { vm: 'web', direction: 'outgoing' };
const IN: RunningMigration = { vm: 'db', direction: 'incoming' };

describe('A restart of the daemon that a migration would feel', () => {
  let root: string;
  let ours: TestAuthority;
  let now: number;
  const open: JournaledEngine[] = [];
  const bell = new Bell();

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'virt-trust-wait-'));
    ours = await makeAuthority('Ours');
    now = Date.now();
  });
  afterEach(async () => {
    for (const engine of open.splice(0)) await engine.stop();
    await rm(root, { recursive: true, force: true });
  });

  async function engineWith(running: readonly RunningMigration[] = []) {
    const paths = agentPaths(root);
    const effects = new FileEffects(paths);
    effects.running = running;
    const events: string[] = [];
    const engine = new JournaledEngine({
      paths,
      effects,
      clock: { now: () => instant(now) },
      log: silentLog,
      emit: async (kind, subject, message) => {
        events.push(`${kind} ${subject} ${message}`);
        bell.ring();
      },
      onWait: () => bell.ring(),
      barrier: barrierOf(undefined),
      proofBoundMs: HOUR,
      mode: 'manage',
      checkIntervalMs: null,
    });
    open.push(engine);
    await engine.start();
    return { engine, effects, paths, events, kinds: () => events.map((event) => event.split(' ')[0]) };
  }

  /** A host that serves ours already. */
  async function secured() {
    const first = await engineWith();
    await makeHost(first.paths);
    await manage(first.engine, bell, ours, desiredState(ours, 1));
    await first.engine.stop();
    return first.paths;
  }

  /** The first desired state with other settings, for which the daemon is restarted. */
  function otherSettings(
    number: number,
    change: { revision?: number; waitSeconds?: number } = {},
  ): DesiredState {
    const desired = desiredState(ours, number, change);
    const migrationWaitSeconds = change.waitSeconds ?? 3600;
    return { ...desired, settings: { ...desired.settings, migrateTls: 'force', migrationWaitSeconds } };
  }

  async function waiting(engine: JournaledEngine) {
    for (;;) {
      const rung = bell.next;
      const pending = (await engine.observedState()).pending.filter(({ until }) => until !== undefined);
      if (pending.length > 0) return pending;
      await rung;
    }
  }

  it('waits for its end, says what for and until when, and then goes on', async () => {
    await secured();
    const { engine, effects, events, kinds } = await engineWith([OUT, IN]);
    const done = manage(engine, bell, ours, otherSettings(2));
    const [pending] = await waiting(engine);
    assert.match(pending?.what ?? '', /restart of the libvirt daemon/);
    assert.match(pending?.why ?? '', /web \(outgoing\), db \(incoming\), until .* at the latest/);
    assert.equal(pending?.until, now + HOUR);
    assert.match(engine.reloadWaits().join(), /^restart of the libvirt daemon waits for/);
    assert.equal(effects.calls.length, 0);
    effects.changeMigrations([IN]);
    effects.changeMigrations([]);
    const observed = await done;
    assert.deepEqual(observed.pending, []);
    assert.ok(observed.credentials.every(({ phase }) => phase === 'settled'));
    assert.deepEqual(engine.reloadWaits(), []);
    assert.ok(effects.calls.includes('restart'));
    assert.ok(kinds().includes('apply.migrations_over') && !kinds().includes('apply.migrations_cut'));
    assert.match(events.join('\n'), /apply\.migrations_awaited libvirt waits for the migration of web/);
  });

  it('goes on once the limit is over, and says which migrations it cuts', async () => {
    await secured();
    const { engine, effects, events } = await engineWith([OUT]);
    const done = manage(engine, bell, ours, otherSettings(2));
    await waiting(engine);
    now += HOUR + SECOND;
    effects.changeMigrations([OUT]);
    await done;
    assert.ok(effects.calls.includes('restart'));
    assert.match(events.join('\n'), /apply\.migrations_cut libvirt .*web \(outgoing\)/);
  });

  it('does not wait where the limit is nought, nor where only certificates are renewed', async () => {
    await secured();
    const { engine, effects, kinds } = await engineWith([OUT]);
    await manage(engine, bell, ours, desiredState(ours, 2, { revision: 2 }));
    assert.ok(effects.calls.includes('reload-libvirt') && !effects.calls.includes('restart'));
    assert.ok(!kinds().includes('apply.migrations_awaited'));
    await manage(engine, bell, ours, otherSettings(3, { waitSeconds: 0 }));
    assert.ok(effects.calls.includes('restart'));
    assert.ok(kinds().includes('apply.migrations_cut') && !kinds().includes('apply.migrations_awaited'));
  });

  it('lets renewed certificates be loaded at once, while the restart waits', async () => {
    const paths = await secured();
    const before = await served(paths, 'libvirt');
    const { engine, effects } = await engineWith([OUT]);
    const done = manage(engine, bell, ours, otherSettings(2, { revision: 2 }));
    await waiting(engine);
    assert.deepEqual(
      effects.calls.filter((call) => /^reload-|restart/.test(call)),
      ['libvirt', 'migration', 'vnc', 'spice', 'nbd', 'backup'].map((service) => `reload-${service}`),
    );
    assert.notDeepEqual(await served(paths, 'libvirt'), before);
    effects.changeMigrations([]);
    await done;
  });

  it('goes on waiting after the end of the agent, for no longer than before', async () => {
    await secured();
    const first = await engineWith([OUT]);
    const cut = manage(first.engine, bell, ours, otherSettings(2));
    const [before] = await waiting(first.engine);
    await first.engine.stop();
    now += MINUTE;
    const { engine, effects } = await engineWith([OUT]);
    const [pending] = await waiting(engine);
    assert.equal(pending?.until, before?.until);
    effects.changeMigrations([]);
    await manage(engine, bell, ours, otherSettings(2));
    assert.ok(effects.calls.includes('restart'));
    bell.ring();
    void cut.catch(() => {});
  });

  it('lets what comes meanwhile join: renewed certificates are served, and the limit stays', async () => {
    const paths = await secured();
    const { engine, effects, kinds } = await engineWith([OUT]);
    void manage(engine, bell, ours, otherSettings(2)).catch(() => {});
    const [before] = await waiting(engine);
    const old = await served(paths, 'vnc');
    now += MINUTE;
    const done = manage(engine, bell, ours, otherSettings(3, { revision: 2 }));
    for (;;) {
      const rung = bell.next;
      const pending = (await engine.observedState()).pending.filter(({ until }) => until !== undefined);
      if (pending.length > 0 && (await served(paths, 'vnc')).certificate !== old.certificate) {
        assert.equal(pending[0]?.until, before?.until);
        break;
      }
      await rung;
    }
    assert.equal(effects.calls.filter((call) => call === 'restart').length, 0);
    effects.changeMigrations([]);
    await done;
    assert.equal(effects.calls.filter((call) => call === 'restart').length, 1);
    assert.ok(kinds().includes('apply.went_back'));
  });

  it('holds a removal up before it takes anything away, also one that comes while something waits', async () => {
    assert.equal(planRemoval(['libvirt'], false)[0], 'await-migrations');
    const paths = await secured();
    const { engine, effects } = await engineWith([OUT]);
    void manage(engine, bell, ours, otherSettings(2)).catch(() => {});
    const [before] = await waiting(engine);
    const set = await served(paths, 'vnc');
    now += MINUTE;
    const removed = engine.remove();
    for (;;) {
      const rung = bell.next;
      const journal = await readFile(paths.journal, 'utf8').catch(() => '{}');
      if (JSON.parse(journal).kind === 'removing') break;
      await rung;
    }
    const [pending] = await waiting(engine);
    assert.equal(pending?.until, before?.until);
    assert.deepEqual(await served(paths, 'vnc'), set);
    effects.changeMigrations([]);
    await removed;
    assert.equal(effects.calls.filter((call) => call === 'restart').length, 1);
  });

  it('goes first: no other migration begins meanwhile', async () => {
    await secured();
    const { engine, effects } = await engineWith([OUT]);
    await engine.beforeMigration();
    const done = manage(engine, bell, ours, otherSettings(2));
    await waiting(engine);
    await assert.rejects(
      engine.beforeMigration(),
      (error) =>
        isTrustError(error, 'migration.restart_due') && /web \(outgoing\)/.test((error as Error).message),
    );
    effects.changeMigrations([]);
    await done;
    await engine.beforeMigration();
  });

  it('puts off the repair of settings that somebody changed, until it harms no migration', async () => {
    const paths = await secured();
    const file = paths.at('/etc/libvirt/qemu.conf');
    await unlink(file);
    await writeFile(file, 'vnc_tls = 0\n');
    const { engine, effects, kinds } = await engineWith([IN]);
    await engine.idle();
    assert.deepEqual([effects.calls, (await waiting(engine)).length], [[], 1]);
    assert.ok(!kinds().includes('repair.done'));
    effects.changeMigrations([]);
    await engine.round();
    assert.deepEqual(effects.calls.filter((call) => call === 'restart').length, 1);
    assert.deepEqual(engine.reloadWaits(), []);
    assert.ok(kinds().includes('repair.done'));
  });

  it('puts such a repair off for no longer than the limit', async () => {
    const paths = await secured();
    const file = paths.at('/etc/libvirt/qemu.conf');
    await unlink(file);
    await writeFile(file, 'vnc_tls = 0\n');
    const { engine, effects, kinds } = await engineWith([IN]);
    await engine.idle();
    now += HOUR;
    await engine.round();
    assert.ok(effects.calls.includes('restart') && kinds().includes('apply.migrations_cut'));
  });
});
