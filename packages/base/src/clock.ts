import type { Instant } from './instant.ts';

/** Where the time comes from, so that tests can set it. */
export interface Clock {
  now(): Instant;
}

/** The machine's own clock. */
export const systemClock: Clock = { now: () => Date.now() as Instant };
