import { randomBytes } from 'node:crypto';

/** Where unpredictable bytes come from, so that tests can repeat them. */
export interface Randomness {
  /** `length` fresh bytes fit for keys, serial numbers and tokens. */
  bytes(length: number): Uint8Array;
}

/** The operating system's random numbers. */
export const systemRandomness: Randomness = { bytes: (length) => randomBytes(length) };
