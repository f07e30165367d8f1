import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { ManualSleep, madeUpPin } from '@virt-trust/channel/fixtures.ts';
import { Announcer, type AnnounceTarget } from './announcer.ts';

const A = { address: '192.0.2.1', port: 16517 };
const B = { address: '2001:db8::1', port: 16517 };
const PIN: SpkiPin = madeUpPin('manager');

/** An announcer among managers that answer or not; `tried` resolves when it has announced so often. */
function announcerTo(
  t: TestContext,
  targets: readonly AnnounceTarget[],
  answering: readonly AnnounceTarget[],
) {
  const time = new ManualSleep();
  const state = { channels: 0, tried: [] as AnnounceTarget[], proven: [] as string[] };
  const waiting: { count: number; resolve: () => void }[] = [];
  const announcer = new Announcer({
    announceTo: async () => targets,
    announce: async (target) => {
      state.tried.push(target);
      for (const one of waiting) if (state.tried.length >= one.count) one.resolve();
      if (!answering.includes(target)) throw new Error('nobody there');
      return { managerPin: PIN, dialsFrom: ['192.0.2.7'] };
    },
    channels: () => state.channels,
    onAnnounced: async (target, { dialsFrom }) => {
      state.proven.push(target.address, ...dialsFrom);
    },
    // Of each delay, its half.
    randomness: { bytes: () => Uint8Array.of(0, 0) },
    log: silentLog,
    sleep: time.sleep,
  });
  announcer.start();
  t.after(() => announcer.stop());
  const tried = (count: number) =>
    new Promise<void>((resolve) => {
      waiting.push({ count, resolve });
      if (state.tried.length >= count) resolve();
    });
  return { announcer, state, time, tried };
}

test('an agent announces itself soon after its start, then more and more seldom, to all until one takes note', async (t) => {
  const { state, time, tried } = announcerTo(t, [A, B], []);
  for (const [delay, count] of [
    [4000, 2],
    [8000, 4],
    [16_000, 6],
  ] as const) {
    await time.wake(delay);
    await tried(count);
  }
  assert.deepEqual(state.tried.slice(0, 4), [A, B, B, A]);
  assert.deepEqual(state.proven, []);
});

test('it announces to one that takes note and to no other', async (t) => {
  const { state, time, tried } = announcerTo(t, [A, B], [A, B]);
  await time.wake(4000);
  await tried(1);
  await time.wake(8000);
  await tried(2);
  await time.wake(16_000);
  assert.deepEqual(
    state.tried.slice(0, 2),
    [A, B],
    'the second time to another: the first could not reach it',
  );
  assert.deepEqual(state.proven.slice(0, 4), [A.address, '192.0.2.7', B.address, '192.0.2.7']);
});

test('an agent that has a manager announces nothing; one that lost it waits a minute, or seconds with other addresses', async (t) => {
  const { announcer, state, time, tried } = announcerTo(t, [A], []);
  const setChannels = async (count: number) => {
    state.channels = count;
    announcer.channelsChanged();
    while (count > 0 && time.waiting.length > 0) await new Promise(setImmediate);
  };
  await setChannels(1);
  await setChannels(0);
  await time.wake(40_000);
  await tried(1);
  announcer.addressesChanged();
  await time.wake(4000);
  await tried(2);
  await setChannels(1);
  announcer.addressesChanged();
  await setChannels(0);
  await time.wake(4000);
  await tried(3);
});

test('an agent that knows no manager to announce to goes on waiting', async (t) => {
  const { state, time } = announcerTo(t, [], []);
  await time.wake(4000);
  await time.wake(8000);
  assert.deepEqual(state.tried, []);
});
