import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instant, MINUTE } from '@virt-trust/base/instant.ts';
import { type Refusal, RefusalReporter } from './refusals.ts';

test('refusals beyond the bound of a minute are counted and not reported', () => {
  let now = 10 * MINUTE;
  const reported: Refusal[] = [];
  const reporter = new RefusalReporter((refusal) => reported.push(refusal), { now: () => instant(now) }, 2);
  for (let count = 0; count < 5; count++) reporter.refuse('192.0.2.1', { kind: 'no-certificate' });
  assert.equal(reported.length, 2);
  now += MINUTE;
  reporter.refuse('192.0.2.2', { kind: 'resumed' });
  assert.deepEqual(reported[2], { remoteAddress: '192.0.2.2', reason: { kind: 'resumed' }, suppressed: 3 });
});

test('a clock that is set back does not silence the reports', () => {
  let now = 10 * MINUTE;
  const reported: Refusal[] = [];
  const reporter = new RefusalReporter((refusal) => reported.push(refusal), { now: () => instant(now) }, 1);
  reporter.refuse('192.0.2.1', { kind: 'resumed' });
  now -= 5 * MINUTE;
  reporter.refuse('192.0.2.1', { kind: 'resumed' });
  assert.equal(reported.length, 2);
});
