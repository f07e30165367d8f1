import { DAY, HOUR, type Instant, MINUTE } from './instant.ts';

/** What a clock on a wall shows: a day, counted from 1970-01-01, and minutes since its midnight. */
export interface WallTime {
  readonly day: number;
  readonly minute: number;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
      era: 'short',
    });
    formats.set(zone, format);
  }
  return format;
}

/** Whether the IANA time zone database, as this program has it, knows the zone. */
export function isTimeZone(zone: string): boolean {
  // Offsets such as +02:00 are zones for Intl too, but know no daylight saving time, which whoever writes one may not expect.
  if (!/^[A-Za-z][A-Za-z0-9_+-]*(?:\/[A-Za-z0-9_+-]+){0,2}$/.test(zone) || zone.length > 64) return false;
  try {
    formatOf(zone);
    return true;
  } catch {
    return false;
  }
}

/** How far the zone's wall clocks are ahead of UTC at a time, in milliseconds. */
function offsetAt(at: number, zone: string): number {
  const parts = Object.fromEntries(
    formatOf(zone)
      .formatToParts(at)
      .map(({ type, value }) => [type, value]),
  );
  const field = (name: string) => Number(parts[name]);
  const wall = Date.UTC(
    field('year'),
    field('month') - 1,
    field('day'),
    field('hour'),
    field('minute'),
    field('second'),
  );
  return wall - Math.floor(at / 1000) * 1000;
}

/** What wall clocks in the zone show at a time. */
export function wallTimeOf(at: Instant, zone: string): WallTime {
  const wall = at + offsetAt(at, zone);
  const day = Math.floor(wall / DAY);
  return { day, minute: Math.floor((wall - day * DAY) / MINUTE) };
}

/**
 * When wall clocks in the zone first show a time, or are first past it: the first of two where they are set back, the
 * moment of the leap where they leap over it.
 */
export function instantOfWallTime({ day, minute }: WallTime, zone: string): Instant {
  const wall = day * DAY + minute * MINUTE;
  // No zone was ever 15 hours from UTC, and none changes its offset twice within two days.
  let before = wall - 15 * HOUR;
  let after = wall + 15 * HOUR;
  const earlier = wall - offsetAt(before, zone);
  if (earlier + offsetAt(earlier, zone) === wall) return earlier as Instant;
  const later = wall - offsetAt(after, zone);
  if (later + offsetAt(later, zone) === wall) return later as Instant;
  // In a gap: between the two lies the leap.
  const first = offsetAt(before, zone);
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2);
    if (offsetAt(middle, zone) === first) before = middle;
    else after = middle;
  }
  return after as Instant;
}
