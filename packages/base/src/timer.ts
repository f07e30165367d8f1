import type { Clock } from './clock.ts';
import { type Instant, MINUTE } from './instant.ts';

/** A clock that goes faster than the machine's, for runs that shorten the time, says by how much. */
export interface RatedClock extends Clock {
  /** How many of its seconds pass in one of the machine's. */
  readonly rate: number;
}

/** A clock that runs `rate` times as fast as another from now on. */
export function fasterClock(clock: Clock, rate: number): RatedClock {
  const start = clock.now();
  return { rate, now: () => Math.round(start + (clock.now() - start) * rate) as Instant };
}

/**
 * Runs `wake` once, when the clock shows `at` or later; returns what takes it back. The clock is looked at each minute at
 * the least, since timers stand still while a machine sleeps and know of no clock that was set. Never keeps the process alive.
 */
export function wakeAt(clock: Clock, at: Instant, wake: () => void): () => void {
  const rate = 'rate' in clock ? (clock as RatedClock).rate : 1;
  let timer: NodeJS.Timeout;
  const arm = (): void => {
    const left = Math.max(0, at - clock.now()) / rate;
    timer = setTimeout(() => (clock.now() >= at ? wake() : arm()), Math.min(left, MINUTE));
    timer.unref();
  };
  arm();
  return () => clearTimeout(timer);
}
