import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from './clock.ts';
import { type Instant, instant, MINUTE } from './instant.ts';
import { fasterClock, wakeAt } from './timer.ts';

test('A waker that is due runs soon, once.', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  wakeAt(systemClock, instant(0), resolve);
  const alive = setInterval(() => {}, 1000);
  await promise;
  clearInterval(alive);
});

test('A faster clock starts where the other stands, and a waker on it does not wait for the slower one.', async () => {
  let now = 1000;
  const fast = fasterClock({ now: () => now as Instant }, 4);
  assert.equal(fast.now(), 1000);
  now += 500;
  assert.equal(fast.now(), 3000);
  const { promise, resolve } = Promise.withResolvers<void>();
  const quick = fasterClock(systemClock, 60_000);
  wakeAt(quick, instant(quick.now() + 10 * MINUTE), resolve);
  const alive = setInterval(() => {}, 1000);
  await promise;
  clearInterval(alive);
});

test('A waker that was taken back never runs.', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const cancel = wakeAt({ now: () => 0 as Instant }, instant(0), () => assert.fail('it ran'));
  cancel();
  t.mock.timers.tick(2 * MINUTE);
});

test('A waker looks at the clock again each minute, and sees that it was set.', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 0;
  let woken = 0;
  wakeAt({ now: () => now as Instant }, instant(1000 * MINUTE), () => {
    woken += 1;
  });
  t.mock.timers.tick(MINUTE);
  assert.equal(woken, 0);
  now = 2000 * MINUTE;
  t.mock.timers.tick(MINUTE);
  assert.equal(woken, 1);
});
