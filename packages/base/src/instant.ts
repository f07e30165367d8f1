import type { Brand } from './brand.ts';
import { TrustError } from './error.ts';

/** Milliseconds since 1970-01-01T00:00:00Z, an integer. */
export type Instant = Brand<number, 'Instant'>;

/** 9999-12-31T23:59:59Z: a certificate that never expires (RFC 5280 §4.1.2.5). */
export const NEVER = 253_402_300_799_000 as Instant;

/** True for an integer number of milliseconds between the years 0001 and 9999. */
export function isInstant(value: unknown): value is Instant {
  return (
    Number.isSafeInteger(value) && (value as number) <= NEVER && (value as number) >= -62_135_596_800_000
  );
}

/** Makes an Instant of milliseconds; throws `instant.invalid`. */
export function instant(milliseconds: number): Instant {
  if (!isInstant(milliseconds)) {
    throw new TrustError(
      'instant.invalid',
      'invalid',
      `cannot use ${milliseconds} as a time: not whole milliseconds`,
    );
  }
  return milliseconds;
}

/** Parses an ISO 8601 UTC time such as `2026-11-22T04:00:00Z`; throws `instant.invalid`. */
export function parseInstant(text: string): Instant {
  const value = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,3})?Z$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (!isInstant(value)) {
    throw new TrustError(
      'instant.invalid',
      'invalid',
      `cannot read time ${JSON.stringify(text.slice(0, 40))}: not ISO 8601 in UTC`,
    );
  }
  return value;
}

/** ISO 8601 in UTC, to the second where there are no milliseconds. */
export function formatInstant(value: Instant): string {
  return new Date(value).toISOString().replace('.000Z', 'Z');
}

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
