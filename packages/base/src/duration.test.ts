import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDuration, parseDuration } from './duration.ts';
import { DAY, HOUR, MINUTE, SECOND } from './instant.ts';

test('A duration is one whole number above zero with one unit.', () => {
  assert.equal(parseDuration('90s'), 90 * SECOND);
  assert.equal(parseDuration('5m'), 5 * MINUTE);
  assert.equal(parseDuration('12h'), 12 * HOUR);
  assert.equal(parseDuration('180d'), 180 * DAY);
  assert.equal(parseDuration('26w'), 182 * DAY);
  assert.equal(parseDuration('2y'), 730 * DAY);
  for (const text of [
    '',
    '5',
    'm',
    '0m',
    '05m',
    '-5m',
    '+5m',
    '1.5h',
    '5 m',
    '5M',
    '1h30m',
    '5ms',
    '9999999999d',
    '5m\n',
  ])
    assert.equal(parseDuration(text), undefined, text);
});

test('A duration is shown in its two largest units that say something.', () => {
  assert.equal(formatDuration(0), '0 s');
  assert.equal(formatDuration(75 * SECOND), '1 m 15 s');
  assert.equal(formatDuration(90 * DAY), '90 d');
  assert.equal(formatDuration(2 * DAY + 3 * HOUR + 5 * MINUTE), '2 d 3 h');
  assert.equal(formatDuration(DAY + 5 * SECOND), '1 d');
});
