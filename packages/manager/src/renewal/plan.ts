import { sha256Hex } from '@virt-trust/base/digest.ts';
import { formatDuration } from '@virt-trust/base/duration.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { nextOpening, type TimeWindows } from '@virt-trust/base/time-window.ts';

/** Everything that the time of a renewal is computed from. */
export interface RenewalFacts {
  readonly serialNumber: string;
  readonly issuedAt: Instant;
  readonly notAfter: Instant;
  /** Of the lifetime, 0 to 25. */
  readonly jitterPercent: number;
  readonly windows: TimeWindows;
  /** The windows as they were set. */
  readonly windowsText: string;
  /** Milliseconds. */
  readonly backoffMin: number;
  readonly backoffMax: number;
  /** How often renewing failed since the last success. */
  readonly failures: number;
  readonly lastFailedAt: Instant | null;
  /** What would be different about a certificate made now, in words; the renewal is due at once where there is something. */
  readonly differences: readonly string[];
  /** When the differences were noticed. */
  readonly noticedAt: Instant;
  readonly now: Instant;
}

/** When a renewal begins at the earliest, and the reckoning line by line. */
export interface PlannedRenewal {
  readonly at: Instant;
  readonly explanation: readonly string[];
}

/** After this part of the lifetime maintenance windows are no longer waited for. */
const LAST_MOMENT = 5 / 6;
const MOST_DOUBLINGS = 40;

/**
 * The one time at which a certificate is renewed, and why then: half of its lifetime, jitter by its serial number, at once
 * where it would be made differently now, not before the back-off after failures is over, in a maintenance window, but
 * rather outside of every window than too late. Pure.
 */
export function planRenewal(facts: RenewalFacts): PlannedRenewal {
  const { issuedAt, notAfter } = facts;
  // Certificates count in whole seconds.
  const lifetime = Math.max(1, notAfter - seconds(issuedAt));
  const lines = [
    `issued ${formatInstant(seconds(issuedAt))}, valid until ${formatInstant(notAfter)}: ${formatDuration(lifetime)}`,
  ];
  const regular = regularTime(facts, lifetime, lines);
  let at = regular;
  if (facts.differences.length > 0) {
    at = Math.min(regular, facts.noticedAt) as Instant;
    lines.push(...facts.differences.slice(0, 8).map((difference) => `due at once: ${difference}`));
  }
  if (facts.failures > 0 && facts.lastFailedAt !== null) at = afterBackoff(facts, lifetime, at, lines);
  at = inWindow(facts, seconds(issuedAt + lifetime * LAST_MOMENT), at, lines);
  return { at, explanation: lines.map((line) => line.slice(0, 1000)) };
}

/** A number from 0 to 1 that a serial number always gives, and others give differently. */
function fractionOf(serialNumber: string): number {
  return Number.parseInt(sha256Hex(`renewal ${serialNumber}`).slice(0, 12), 16) / 2 ** 48;
}

function regularTime(
  { issuedAt, serialNumber, jitterPercent }: RenewalFacts,
  lifetime: number,
  lines: string[],
): Instant {
  const half = seconds(issuedAt + lifetime / 2);
  const most = (lifetime * jitterPercent) / 100;
  const jitter = Math.floor(most * fractionOf(serialNumber));
  lines.push(`half of it is over ${formatInstant(half)}`);
  if (most <= 0) return half;
  const at = seconds(half + jitter);
  lines.push(
    `jitter: ${formatDuration(jitter)} of up to ${formatDuration(most)} by the serial number, so ${formatInstant(at)}`,
  );
  return at;
}

function afterBackoff(facts: RenewalFacts, lifetime: number, at: Instant, lines: string[]): Instant {
  const { failures, lastFailedAt } = facts;
  const doubled = facts.backoffMin * 2 ** Math.min(failures - 1, MOST_DOUBLINGS);
  const wait = Math.min(doubled, Math.max(facts.backoffMin, facts.backoffMax), lifetime / 10);
  const until = seconds((lastFailedAt ?? 0) + Math.ceil(wait / 1000) * 1000);
  lines.push(
    `failed ${failures === 1 ? 'once' : `${failures} times`}: not before ${formatInstant(until)}, ${formatDuration(wait)} after the last failure`,
  );
  return Math.max(at, until) as Instant;
}

function inWindow({ windows, windowsText, now }: RenewalFacts, last: Instant, at: Instant, lines: string[]) {
  if (windows === 'always') return at;
  // A window that was open then may be shut by now.
  const earliest = Math.max(at, now) as Instant;
  const opening = nextOpening(windows, earliest);
  if (opening !== undefined && opening <= last) {
    lines.push(`maintenance window ${windowsText}: ${formatInstant(seconds(opening))}`);
    return opening;
  }
  const late = Math.max(at, last) as Instant;
  lines.push(
    `maintenance window ${windowsText}: none opens before ${formatInstant(last)}, the last safe moment, so it is not waited for: ${formatInstant(late)}`,
  );
  return late;
}

function seconds(at: number): Instant {
  return (Math.floor(at / 1000) * 1000) as Instant;
}
