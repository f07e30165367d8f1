import { MINUTE } from '@virt-trust/base/instant.ts';

/** How badly an interface behaved of late. */
export interface Damping {
  readonly merit: number;
  /** When that was computed. */
  readonly at: number;
  /** Whether what it has is believed no more. */
  readonly held: boolean;
}

/** Each loss counts one, and half of that a minute later. */
const HALF_LIFE_MS = MINUTE;
/** The sixth loss in quick succession is one too many; a person who takes addresses off one by one gets there hardly. */
const CUTOFF = 5;
const REUSE = 3;
const LONGEST_HOLD_MS = 5 * MINUTE;
const CEILING = REUSE * 2 ** (LONGEST_HOLD_MS / HALF_LIFE_MS);

/** Nothing to be said against it. */
export const CALM: Damping = { merit: 0, at: 0, held: false };

/**
 * Route flap damping (RFC 2439 §4.4) for interfaces: losses alone count, and the figure of merit decays. A link that
 * flaps is held for about a minute after its last loss, one that goes on flapping for up to five.
 */
export function damp(before: Damping, lost: boolean, now: number): Damping {
  const decayed = before.merit * 2 ** (-Math.max(0, now - before.at) / HALF_LIFE_MS);
  const merit = Math.min(CEILING, decayed + (lost ? 1 : 0));
  return { merit, at: now, held: before.held ? merit > REUSE : merit > CUTOFF };
}

/** How long what is held stays so, if nothing more is lost. */
export function holdMs({ merit }: Damping): number {
  return Math.max(0, Math.ceil(HALF_LIFE_MS * Math.log2(merit / REUSE)) + 1);
}
