import type { Randomness } from '@virt-trust/base/randomness.ts';

export interface BackOff {
  readonly firstMs: number;
  readonly maxMs: number;
}

/**
 * How long to wait before dialling again after `failures` dials without success: doubling, bounded, and spread by
 * half so that a fleet does not come back at one time.
 */
export function backOffDelay({ firstMs, maxMs }: BackOff, failures: number, randomness: Randomness): number {
  if (failures <= 0) return 0;
  const full = Math.min(maxMs, firstMs * 2 ** Math.min(failures - 1, 30));
  const [high = 0, low = 0] = randomness.bytes(2);
  return Math.round(full * (0.5 + (high * 256 + low) / 131_072));
}
