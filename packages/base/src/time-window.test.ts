import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DAY, formatInstant, HOUR, type Instant, MINUTE, parseInstant } from './instant.ts';
import { nextOpening, parseTimeWindows, type TimeWindow } from './time-window.ts';
import { instantOfWallTime, wallTimeOf } from './zoned-time.ts';

/** Zones with daylight saving time north and south of the equator, of half an hour, of none, and far from UTC. */
const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'Asia/Kolkata',
  'Pacific/Kiritimati',
  'Pacific/Chatham',
  'America/Sao_Paulo',
];

function opening(text: string, from: string): string {
  const windows = parseTimeWindows(text);
  assert.ok(windows !== undefined, text);
  const at = nextOpening(windows, parseInstant(from));
  return at === undefined ? 'never' : formatInstant(at);
}

test('A window opens at its time on its day, and what comes while it is open need not wait.', () => {
  // 2026-11-22 is a Sunday.
  assert.equal(opening('Sat,Sun 02:00-05:00 Europe/Berlin', '2026-11-20T12:00:00Z'), '2026-11-21T01:00:00Z');
  assert.equal(opening('Sat,Sun 02:00-05:00 Europe/Berlin', '2026-11-21T02:30:00Z'), '2026-11-21T02:30:00Z');
  assert.equal(opening('Sat,Sun 02:00-05:00 Europe/Berlin', '2026-11-21T04:00:00Z'), '2026-11-22T01:00:00Z');
  assert.equal(opening('Sat,Sun 02:00-05:00', '2026-11-22T05:00:00Z'), '2026-11-28T02:00:00Z');
  assert.equal(opening('02:00-05:00', '2026-11-22T05:00:00Z'), '2026-11-23T02:00:00Z');
  assert.equal(opening('always', '2026-11-22T05:00:00Z'), '2026-11-22T05:00:00Z');
});

test('A window over midnight belongs to the day on which it opens.', () => {
  assert.equal(opening('Fri 22:00-04:00', '2026-11-21T03:59:00Z'), '2026-11-21T03:59:00Z');
  assert.equal(opening('Fri 22:00-04:00', '2026-11-21T04:00:00Z'), '2026-11-27T22:00:00Z');
  assert.equal(opening('Fri 22:00-24:00', '2026-11-27T23:59:00Z'), '2026-11-27T23:59:00Z');
  assert.equal(opening('Mon 00:00-00:00', '2026-11-23T23:59:00Z'), '2026-11-23T23:59:00Z');
});

test('Of several windows the one that opens first counts, and ranges of days may go over the week’s end.', () => {
  const both = 'Mon 01:00-02:00; Wed 03:00-04:00 America/New_York';
  assert.equal(opening(both, '2026-11-24T00:00:00Z'), '2026-11-25T08:00:00Z');
  assert.equal(opening('Fri-Mon 01:00-02:00', '2026-11-24T00:00:00Z'), '2026-11-27T01:00:00Z');
});

test('Where clocks leap forward a window that they leap over does not open, and one around it opens at the leap.', () => {
  // In Berlin 2027-03-28 02:00 becomes 03:00.
  assert.equal(opening('Sun 02:00-03:00 Europe/Berlin', '2027-03-27T12:00:00Z'), '2027-04-04T00:00:00Z');
  assert.equal(opening('Sun 02:30-04:00 Europe/Berlin', '2027-03-27T12:00:00Z'), '2027-03-28T01:00:00Z');
});

test('Where clocks are set back a window opens at the first of the two times.', () => {
  // In Berlin 2026-10-25 03:00 becomes 02:00.
  assert.equal(opening('Sun 02:30-02:45 Europe/Berlin', '2026-10-24T12:00:00Z'), '2026-10-25T00:30:00Z');
});

test('What is no window is refused.', () => {
  const wrong = [
    '',
    ';',
    'never',
    '2:00-5:00',
    '24:00-25:00',
    '02:60-05:00',
    'Sam 02:00-05:00',
    'Sat, 02:00-05:00',
    'Sat-Sun-Mon 02:00-05:00',
    '02:00-05:00 Europe/Berlinn',
    '02:00-05:00 +02:00',
    '02:00-05:00 UTC UTC',
    'always; 02:00-05:00',
    Array.from({ length: 17 }, () => '02:00-05:00').join(';'),
  ];
  for (const text of wrong) assert.equal(parseTimeWindows(text), undefined, text);
  fc.assert(fc.property(fc.string({ maxLength: 80 }), (text) => void parseTimeWindows(text)));
});

const minute = fc.integer({ min: 0, max: 1439 });
const around = fc.constantFrom(
  '2026-10-24',
  '2027-03-13',
  '2027-03-27',
  '2027-04-03',
  '2026-09-26',
  '2026-11-22',
);

test('An opening is never before what was asked for, the wall clock is in the window then, and was not since.', () => {
  const arbitrary = fc.record({
    days: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 7 }),
    start: minute,
    end: fc.integer({ min: 1, max: 1440 }),
    zone: fc.constantFrom(...ZONES),
    day: around,
    offset: fc.integer({ min: 0, max: 2 * DAY - 1 }),
  });
  fc.assert(
    fc.property(arbitrary, ({ days, start, end, zone, day, offset }) => {
      const window: TimeWindow = { days: new Set(days), start, end, zone };
      const from = (parseInstant(`${day}T00:00:00Z`) + offset) as Instant;
      const at = nextOpening([window], from);
      assert.ok(at !== undefined);
      assert.ok(at >= from);
      assert.ok(isWithin(window, at), formatInstant(at));
      // Minute by minute, as far as a test has time for; where clocks go back a time comes twice, and opens once.
      for (
        let earlier = from;
        earlier < Math.min(at, from + 6 * HOUR);
        earlier = (earlier + MINUTE) as Instant
      ) {
        if (isWithin(window, earlier)) assert.ok(isSecondTime(earlier, zone), formatInstant(earlier));
      }
    }),
    { numRuns: 300 },
  );
});

test('Wall clocks show at the moment that was computed what was asked for, but where they leap.', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...ZONES),
      fc.integer({ min: 20_000, max: 22_000 }),
      minute,
      (zone, day, at) => {
        const shown = wallTimeOf(instantOfWallTime({ day, minute: at }, zone), zone);
        assert.ok(shown.day === day && shown.minute >= at && shown.minute <= at + 60);
      },
    ),
  );
});

function isWithin({ days, start, end, zone }: TimeWindow, at: Instant): boolean {
  const { day, minute: now } = wallTimeOf(at, zone);
  const on = (one: number) => days.has((one + 4) % 7);
  if (end > start) return on(day) && now >= start && now < end;
  return (on(day) && now >= start) || (on(day - 1) && now < end);
}

function isSecondTime(at: Instant, zone: string): boolean {
  // Up to an hour after the set-back the first of the two times is over.
  return [30 * MINUTE, HOUR].some((back) => {
    const before = wallTimeOf((at - back) as Instant, zone);
    const now = wallTimeOf(at, zone);
    return before.day * 1440 + before.minute >= now.day * 1440 + now.minute;
  });
}
