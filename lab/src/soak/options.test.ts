import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { parseSoakOptions } from './options.ts';

test('A soak lasts an hour by the clock of the machine unless it is told otherwise.', () => {
  assert.deepEqual(parseSoakOptions([]), { minutes: 60, clockRate: 1 });
  assert.deepEqual(parseSoakOptions(['--minutes', '8', '--clock-rate', '4']), { minutes: 8, clockRate: 4 });
  assert.equal(parseSoakOptions(['--minutes', '8', '-h']), 'help');
});

test('What is no number of minutes or no rate is refused, and so is one that the hosts would not go along with.', () => {
  for (const args of [
    ['--minutes', '0'],
    ['--minutes', 'many'],
    ['--clock-rate', '0.5'],
    ['--clock-rate', '9'],
    ['--clock-rate', '1e1'],
    ['--minutes', '600', '--clock-rate', '4'],
    ['--hours', '1'],
    ['more'],
  ])
    assert.throws(
      () => parseSoakOptions(args),
      (error) => isTrustError(error, 'soak.usage'),
      args.join(' '),
    );
});
