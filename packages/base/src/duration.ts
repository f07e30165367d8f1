import { DAY, HOUR, MINUTE, SECOND } from './instant.ts';

const UNITS = { s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY, y: 365 * DAY } as const;

/** The milliseconds of a duration such as `90s`, `5m`, `12h`, `180d`, `26w` or `2y` (of 365 days); undefined for another text. */
export function parseDuration(text: string): number | undefined {
  const match = /^([1-9]\d{0,8})([smhdwy])$/.exec(text);
  if (match === null) return undefined;
  const value = Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
  return Number.isSafeInteger(value) ? value : undefined;
}

/** A length of time for people, in its two largest units: `2 d 3 h`, `1 m 15 s`. */
export function formatDuration(milliseconds: number): string {
  let rest = Math.max(0, Math.round(milliseconds / SECOND)) * SECOND;
  const parts: string[] = [];
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const count = Math.floor(rest / UNITS[unit]);
    rest -= count * UNITS[unit];
    if (count > 0) parts.push(`${count} ${unit}`);
    // What is below the second largest unit says nothing.
    if (parts.length === 2 || (parts.length === 1 && count === 0)) break;
  }
  return parts.length === 0 ? '0 s' : parts.join(' ');
}
