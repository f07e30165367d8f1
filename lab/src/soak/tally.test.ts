import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Tally } from './tally.ts';

test('What fails is counted beside what was done, told once, and listed with its reason.', async () => {
  const tally = new Tally();
  const told: string[] = [];
  assert.equal(await tally.run('VM start', 'vm1', async () => 7), 7);
  const failing = tally.run(
    'VM start',
    'vm2',
    () => Promise.reject(new Error('no memory')),
    ({ what }) => told.push(what),
  );
  assert.equal(await failing, undefined);
  assert.deepEqual(told, ['vm2']);
  assert.equal(tally.count('VM start'), 2);
  const text = tally.lines().join('\n');
  assert.match(text, /^VM start +2 done, 1 failed$/m);
  assert.match(text, /^migration +0 done, 0 failed$/m);
  assert.match(text, /VM start of vm2: no memory$/m);
});
