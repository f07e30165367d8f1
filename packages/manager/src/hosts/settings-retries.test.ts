import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { type Instant, instant, MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { JobContext } from '../jobs/job.ts';
import { testHost } from './fixtures.ts';
import type { HostsContext } from './ports.ts';
import { settingsJob } from './settings-bringing.ts';
import { SettingsRetries, triedAgain } from './settings-retries.ts';

const { id: ID } = testHost('kvm1');
const AWAY = new TrustError('host.channel_down', 'unavailable', 'cannot reach host kvm1: it is away', {
  hint: 'see that it runs',
});

/** Retries on a clock that goes with the mocked timers, with the longest pauses that chance makes. */
function retriesAt(start: number) {
  const world = { now: start as Instant, woken: [] as string[] };
  const stop = new AbortController();
  const retries = new SettingsRetries({
    wake: (id) => world.woken.push(id),
    clock: { now: () => world.now },
    randomness: { bytes: (length) => new Uint8Array(length).fill(255) },
    signal: stop.signal,
  });
  return { world, retries, stop };
}

test('the pause grows with each failure, up to half an hour, and each time wakes once', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { world, retries } = retriesAt(1_000_000);
  const pauses: number[] = [];
  for (let failure = 1; failure <= 9; failure++) {
    const { at, failures, reason } = retries.failed(ID, AWAY);
    assert.deepEqual([failures, reason], [failure, 'cannot reach host kvm1: it is away']);
    assert.deepEqual(retries.of(ID), { at, failures, reason });
    pauses.push(at - world.now);
    const left = at - world.now;
    for (let passed = 0; passed < left; passed += SECOND) {
      assert.equal(world.woken.length, failure - 1);
      world.now = instant(world.now + SECOND);
      t.mock.timers.tick(SECOND);
    }
    assert.equal(world.woken.length, failure);
  }
  const seconds = [30, 60, 120, 240, 480, 960, 1800, 1800, 1800];
  assert.deepEqual(
    pauses,
    seconds.map((one) => one * SECOND),
  );
});

test('nothing is tried again once it is over, or when the manager stops', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  for (const end of ['over', 'stop'] as const) {
    const { world, retries, stop } = retriesAt(0);
    retries.failed(ID, AWAY);
    if (end === 'over') retries.over(ID);
    else stop.abort();
    assert.equal(retries.of(ID), null);
    world.now = instant(60 * MINUTE);
    t.mock.timers.tick(60 * MINUTE);
    assert.deepEqual(world.woken, []);
    if (end === 'over') assert.equal(retries.failed(ID, AWAY).failures, 1, 'it counts anew');
  }
});

test('another job that works on the host is no failure, and is looked after', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { world, retries } = retriesAt(0);
  retries.postponed(ID);
  assert.equal(retries.of(ID), null);
  world.now = instant(MINUTE);
  t.mock.timers.tick(MINUTE);
  assert.deepEqual(world.woken, [ID]);
  retries.failed(ID, AWAY);
  retries.postponed(ID);
  assert.equal(retries.of(ID)?.failures, 1);
});

test('the error of a job says besides its own way out when it is tried again, and stays what it was', () => {
  const again = triedAgain(AWAY, instant(Date.UTC(2026, 10, 2, 4)));
  const { code, category, message, hint } = again;
  assert.deepEqual([code, category, message], [AWAY.code, AWAY.category, AWAY.message]);
  assert.match(hint ?? '', /^see that it runs; tried again by itself at 2026-11-02T04:00:00Z, or once/);
  assert.match(triedAgain(new Error('odd'), instant(0)).hint ?? '', /^tried again by itself at 1970/);
});

test('a job that fails is tried again; one that was cancelled, or ends well, is not', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const host = testHost('kvm1');
  const { retries } = retriesAt(0);
  const context = {
    repository: { find: async () => host },
    settingsOf: async () => {
      throw AWAY;
    },
    announcePort: () => null,
  } as unknown as HostsContext;
  const job = settingsJob(context, retries);
  const stop = new AbortController();
  const running = {
    signal: stop.signal,
    step: (_: string, run: (report: () => void) => unknown) => run(() => {}),
  } as unknown as JobContext;
  await assert.rejects(job.run({ host: 'kvm1' }, running), { hint: /see that it runs; tried again/ });
  assert.equal(retries.of(host.id)?.failures, 1);
  await assert.rejects(job.run({ host: 'kvm1' }, running));
  assert.equal(retries.of(host.id)?.failures, 2);
  retries.over(host.id);
  stop.abort();
  await assert.rejects(job.run({ host: 'kvm1' }, running), { hint: 'see that it runs' });
  assert.equal(retries.of(host.id), null);
  // It has nothing to be brought, being observed alone.
  retries.failed(host.id, AWAY);
  const observed = { ...host, observeOnly: true };
  const content = {
    ...context,
    repository: { find: async () => observed },
    settingsOf: async () => ({ managerAddresses: [], organization: 'x', migrationModes: [] }),
  } as unknown as HostsContext;
  assert.match(await settingsJob(content, retries).run({ host: 'kvm1' }, running), /already/);
  assert.equal(retries.of(host.id), null);
});
