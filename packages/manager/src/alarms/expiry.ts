import type { Instant } from '@virt-trust/base/instant.ts';
import type { AlarmSeverity } from '@virt-trust/contract/model/alarm.ts';

/** How near its end something may come: the shorter of a time and a part of its lifetime, in milliseconds and percent. */
interface ExpiryThreshold {
  readonly before: number;
  readonly percent: number;
}

export interface ExpiryThresholds {
  readonly warning: ExpiryThreshold;
  readonly critical: ExpiryThreshold;
}

/** Something that ends. `begin` is when it was made; null where nobody knows. */
export interface Validity {
  readonly begin: Instant | null;
  readonly end: Instant;
}

/** Tells whether a time has come, and keeps the soonest that has not: when to look again. */
export class Deadlines {
  readonly now: Instant;
  #next = Number.POSITIVE_INFINITY;

  constructor(now: Instant) {
    this.now = now;
  }

  passed(time: number): boolean {
    if (time <= this.now) return true;
    this.#next = Math.min(this.#next, time);
    return false;
  }

  /** Infinity where time alone changes nothing. */
  get next(): number {
    return this.#next;
  }
}

/** How bad it is that something ends soon; null where it does not. */
export function expirySeverity(
  validity: Validity,
  { warning, critical }: ExpiryThresholds,
  deadlines: Deadlines,
): AlarmSeverity | null {
  if (deadlines.passed(thresholdOf(validity, critical))) return 'critical';
  if (deadlines.passed(thresholdOf(validity, warning))) return 'warning';
  return null;
}

/** A lifetime of minutes is no alarm from its first day on: there the part of the lifetime decides. */
function thresholdOf({ begin, end }: Validity, { before, percent }: ExpiryThreshold): number {
  if (begin === null) return end - before;
  return end - Math.min(before, ((end - begin) * percent) / 100);
}
