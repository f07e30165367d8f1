import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY, HOUR, type Instant, instant, MINUTE, parseInstant, SECOND } from '@virt-trust/base/instant.ts';
import { nextOpening, parseTimeWindows } from '@virt-trust/base/time-window.ts';
import fc from 'fast-check';
import { planRenewal, type RenewalFacts } from './plan.ts';

const ISSUED = parseInstant('2026-11-22T00:00:00Z');

function facts(more: Partial<RenewalFacts> & { lifetime?: number; window?: string } = {}): RenewalFacts {
  const { lifetime = 180 * DAY, window = 'always', ...rest } = more;
  return {
    serialNumber: '40aa',
    issuedAt: ISSUED,
    notAfter: instant(ISSUED + lifetime),
    jitterPercent: 10,
    windows: parseTimeWindows(window) ?? 'always',
    windowsText: window,
    backoffMin: MINUTE,
    backoffMax: 6 * HOUR,
    failures: 0,
    lastFailedAt: null,
    differences: [],
    noticedAt: ISSUED,
    now: ISSUED,
    ...rest,
  };
}

const lifetime = fc.integer({ min: 300, max: 3650 * 86_400 }).map((seconds) => seconds * SECOND);
const serialNumber = fc
  .uint8Array({ minLength: 17, maxLength: 17 })
  .map((octets) => Buffer.from(octets).toString('hex'));
const window = fc.constantFrom(
  'always',
  'Sat,Sun 02:00-05:00 Europe/Berlin',
  '22:00-04:00',
  'Mon 00:00-00:10; Thu 12:00-13:00',
);
const jitterPercent = fc.integer({ min: 0, max: 25 });

test('Without jitter and windows it is half of the lifetime, which the explanation says.', () => {
  const { at, explanation } = planRenewal(facts({ jitterPercent: 0 }));
  assert.equal(at, ISSUED + 90 * DAY);
  assert.deepEqual(explanation, [
    'issued 2026-11-22T00:00:00Z, valid until 2027-05-21T00:00:00Z: 180 d',
    'half of it is over 2027-02-20T00:00:00Z',
  ]);
});

test('A lifetime is told in what it was set to, at whatever millisecond the certificate was made.', () => {
  const { explanation } = planRenewal(facts({ issuedAt: instant(ISSUED + 999) }));
  assert.match(explanation[0] ?? '', /: 180 d$/);
});

test('Jitter follows the half, is the same each time, and never goes past three quarters of the lifetime.', () => {
  fc.assert(
    fc.property(lifetime, serialNumber, jitterPercent, (life, serial, percent) => {
      const given = facts({ lifetime: life, serialNumber: serial, jitterPercent: percent });
      const { at } = planRenewal(given);
      assert.deepEqual(planRenewal(given).at, at);
      assert.ok(at >= ISSUED + life / 2 - SECOND);
      assert.ok(at <= ISSUED + life / 2 + (life * percent) / 100);
      assert.ok(at <= ISSUED + (life * 3) / 4);
    }),
  );
});

test('A fleet that was enrolled together is spread over the whole of the jitter.', () => {
  const times = Array.from(
    { length: 1000 },
    (_, index) => planRenewal(facts({ serialNumber: index.toString(16).padStart(4, '0') })).at,
  );
  const spans = Array.from({ length: 18 }, (_, day) => ISSUED + (90 + day) * DAY);
  for (const from of spans) {
    const within = times.filter((at) => at >= from && at < from + DAY).length;
    assert.ok(within > 20 && within < 110, `${within} of 1000 within a day of 18`);
  }
});

test('A renewal waits for a window, and where none opens in time it does not.', () => {
  fc.assert(
    fc.property(lifetime, serialNumber, window, jitterPercent, (life, serial, text, percent) => {
      const given = facts({ lifetime: life, serialNumber: serial, window: text, jitterPercent: percent });
      const { at, explanation } = planRenewal(given);
      const regular = planRenewal({ ...given, windows: 'always' }).at;
      const last = ISSUED + (life * 5) / 6;
      assert.ok(at >= regular);
      assert.ok(at <= last, 'never too late');
      const open = nextOpening(given.windows, at) === at;
      assert.ok(open || explanation.at(-1)?.includes('the last safe moment'), explanation.join('\n'));
    }),
  );
});

test('A window that was missed is not taken for open, and past the last moment none is waited for.', () => {
  const given = facts({ window: 'Sun 02:00-05:00', jitterPercent: 0 });
  // Half of the lifetime is Saturday, 2027-02-20.
  assert.equal(planRenewal(given).at, parseInstant('2027-02-21T02:00:00Z'));
  const missed = planRenewal({ ...given, now: parseInstant('2027-02-22T00:00:00Z') });
  assert.equal(missed.at, parseInstant('2027-02-28T02:00:00Z'));
  const late = planRenewal({ ...given, now: parseInstant('2027-04-26T00:00:00Z') });
  assert.ok(late.at <= parseInstant('2027-04-26T00:00:00Z'));
  assert.match(late.explanation.join('\n'), /none opens before 2027-04-21T00:00:00Z, the last safe moment/);
});

test('What would be different now makes it due at once, and is said; windows still hold.', () => {
  const now = instant(ISSUED + HOUR);
  const changed = planRenewal(
    facts({ differences: ['the key algorithm is rsa-3072 now'], noticedAt: now, now }),
  );
  assert.equal(changed.at, now);
  assert.ok(changed.explanation.includes('due at once: the key algorithm is rsa-3072 now'));
  const held = planRenewal(facts({ differences: ['x'], noticedAt: now, now, window: 'Mon 02:00-05:00' }));
  assert.equal(held.at, parseInstant('2026-11-23T02:00:00Z'));
});

test('Each failure doubles the wait, up to the longest and to a tenth of the lifetime, and never makes it earlier.', () => {
  const failures = fc.integer({ min: 1, max: 1_000_000 });
  fc.assert(
    fc.property(lifetime, serialNumber, failures, fc.nat(), (life, serial, count, since) => {
      const lastFailedAt = instant(ISSUED + Math.floor(life / 2) + (since % life));
      const base = facts({ lifetime: life, serialNumber: serial, lastFailedAt });
      const at = (number: number) => planRenewal({ ...base, failures: number }).at;
      assert.ok(at(0) <= at(count));
      assert.ok(at(count) <= at(count + 1));
      const wait = Math.min(6 * HOUR, life / 10);
      assert.ok(at(count) <= Math.max(at(0), lastFailedAt + wait + SECOND));
    }),
  );
  const lastFailedAt = instant(ISSUED + 120 * DAY);
  const third = planRenewal(facts({ failures: 3, lastFailedAt }));
  assert.equal(third.at, lastFailedAt + 4 * MINUTE);
  assert.ok(third.explanation.some((line) => line.startsWith('failed 3 times: not before')));
});

test('The later it is, the later is the time that is planned, never earlier.', () => {
  const when = fc.integer({ min: 0, max: 400 * 86_400 }).map((second) => instant(ISSUED + second * SECOND));
  fc.assert(
    fc.property(when, when, window, serialNumber, fc.boolean(), (one, other, text, serial, changed) => {
      const given = facts({ window: text, serialNumber: serial, differences: changed ? ['x'] : [] });
      const [early, late] = [Math.min(one, other) as Instant, Math.max(one, other) as Instant];
      assert.ok(planRenewal({ ...given, now: early }).at <= planRenewal({ ...given, now: late }).at);
    }),
  );
});
