import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { judgeDestination, type Verdict } from './verdict.ts';

describe('judgeDestination', () => {
  const cases: readonly (readonly [state: string, reason: string, verdict: Verdict])[] = [
    ['running', 'migrated', 'there'],
    ['running', 'unpaused', 'there'],
    ['running', 'post-copy', 'post-copy'],
    ['running', 'post-copy failed', 'post-copy-failed'],
    ['paused', 'post-copy failed', 'post-copy-failed'],
    ['paused', 'migrating', 'undecided'],
    ['paused', 'starting up', 'undecided'],
    ['paused', 'user', 'there'],
    ['paused', 'I/O error', 'there'],
    ['in shutdown', 'user', 'there'],
    ['crashed', 'panicked', 'there'],
    ['shut off', 'failed', 'absent'],
    ['shut off', 'destroyed', 'absent'],
    ['shut off', 'unknown', 'absent'],
    ['shut off', 'shutdown', 'there'],
    ['no state', 'unknown', 'undecided'],
    ['state 99', 'reason 1', 'there'],
  ];
  for (const [state, reason, verdict] of cases)
    it(`says ${verdict} of a VM that is ${state} (${reason})`, () =>
      assert.equal(judgeDestination({ state, reason }), verdict));

  it('says absent of a VM that is not there', () => assert.equal(judgeDestination(null), 'absent'));
});
