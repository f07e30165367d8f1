import type { Instant } from './instant.ts';
import { instantOfWallTime, isTimeZone, wallTimeOf } from './zoned-time.ts';

/** When work may begin: on these days of the week, between two times of a wall clock. */
export interface TimeWindow {
  /** 0 is Sunday; the day on which it opens. */
  readonly days: ReadonlySet<number>;
  /** Minutes since midnight; where the end is not after the start it is the next day's. */
  readonly start: number;
  readonly end: number;
  /** IANA. */
  readonly zone: string;
}

/** When work may begin: at any time, or while one of the windows is open. */
export type TimeWindows = 'always' | readonly TimeWindow[];

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const MOST_WINDOWS = 16;
const FORM = /^(?:(\S+) +)?([0-2]\d):([0-5]\d)-([0-2]\d):([0-5]\d)(?: +(\S+))?$/;

/** How windows are written, in words. */
export const TIME_WINDOWS_FORM =
  'always, or windows like `Sat,Sun 02:00-05:00 Europe/Berlin` with `;` between them';

/** Reads `always`, or windows such as `Mon-Fri 22:00-04:00 Europe/Berlin; Sat,Sun 02:00-05:00`; undefined for another text. */
export function parseTimeWindows(text: string): TimeWindows | undefined {
  if (text.trim().toLowerCase() === 'always') return 'always';
  const parts = text.split(';');
  if (parts.length > MOST_WINDOWS) return undefined;
  const windows: TimeWindow[] = [];
  for (const part of parts) {
    const window = parseWindow(part.trim());
    if (window === undefined) return undefined;
    windows.push(window);
  }
  return windows;
}

function parseWindow(text: string): TimeWindow | undefined {
  const [, days, startHour, startMinute, endHour, endMinute, zone = 'UTC'] = FORM.exec(text) ?? [];
  const set = parseDays(days ?? 'daily');
  const start = Number(startHour) * 60 + Number(startMinute);
  const end = Number(endHour) * 60 + Number(endMinute);
  const fits = startHour !== undefined && start < 1440 && end <= 1440;
  return set !== undefined && fits && isTimeZone(zone) ? { days: set, start, end, zone } : undefined;
}

function parseDays(text: string): ReadonlySet<number> | undefined {
  if (text.toLowerCase() === 'daily') return new Set(DAYS.keys());
  const days = new Set<number>();
  for (const part of text.toLowerCase().split(',')) {
    const [first, last, ...more] = part.split('-').map((name) => DAYS.indexOf(name));
    if (first === undefined || more.length > 0 || first < 0 || last === -1) return undefined;
    for (let day = first; ; day = (day + 1) % 7) {
      days.add(day);
      if (day === (last ?? first)) break;
    }
  }
  return days;
}

/** The first moment at or after `from` at which a window is open; undefined where none opens within eight days. */
export function nextOpening(windows: TimeWindows, from: Instant): Instant | undefined {
  if (windows === 'always') return from;
  const openings = windows.flatMap((window) => openingsOf(window, from));
  return openings.length === 0 ? undefined : (Math.min(...openings) as Instant);
}

function openingsOf({ days, start, end, zone }: TimeWindow, from: Instant): Instant[] {
  const today = wallTimeOf(from, zone).day;
  // One that opened yesterday may be open still; each day of the week comes within the next seven, but one of them may be
  // swallowed where clocks leap over it.
  for (let day = today - 1; day <= today + 8; day++) {
    // 1970-01-01 was a Thursday.
    if (!days.has((((day + 4) % 7) + 7) % 7)) continue;
    const opens = instantOfWallTime({ day, minute: start }, zone);
    const closes = instantOfWallTime({ day: end > start ? day : day + 1, minute: end }, zone);
    if (closes > opens && closes > from) return [Math.max(opens, from) as Instant];
  }
  return [];
}
