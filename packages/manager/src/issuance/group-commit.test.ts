import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GroupCommit } from './group-commit.ts';

test('Changes that come while a unit is written go into the next one together, in their order.', async () => {
  const units: number[][] = [];
  let release = () => {};
  const commits = new GroupCommit<number, string>(async (changes) => {
    units.push([...changes]);
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return changes.map((change) => `kept ${change}`);
  });
  const first = commits.submit(1);
  while (units.length === 0) await new Promise(setImmediate);
  const others = [commits.submit(2), commits.submit(3)];
  release();
  assert.equal(await first, 'kept 1');
  while (units.length === 1) await new Promise(setImmediate);
  release();
  assert.deepEqual(await Promise.all(others), ['kept 2', 'kept 3']);
  assert.deepEqual(units, [[1], [2, 3]]);
});

test('A unit that fails is told to everyone in it and to nobody else.', async () => {
  let fail = true;
  const commits = new GroupCommit<number, number>(async (changes) => {
    if (fail) throw new Error('disk');
    return [...changes];
  });
  const outcomes = await Promise.allSettled([commits.submit(1), commits.submit(2)]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  fail = false;
  assert.equal(await commits.submit(3), 3);
});

test('What was submitted is settled once it is kept or has failed, and nothing that came later is waited for.', async () => {
  const units: number[][] = [];
  const releases: (() => void)[] = [];
  const commits = new GroupCommit<number, number>(async (changes) => {
    units.push([...changes]);
    await new Promise<void>((resolve) => releases.push(resolve));
    if (changes.includes(1)) throw new Error('disk');
    return [...changes];
  });
  await commits.settled();
  const failed = assert.rejects(commits.submit(1));
  const settled = commits.settled();
  while (units.length === 0) await new Promise(setImmediate);
  const later = commits.submit(2);
  releases[0]?.();
  await Promise.all([failed, settled]);
  while (units.length === 1) await new Promise(setImmediate);
  releases[1]?.();
  assert.equal(await later, 2);
});

test('No unit is longer than the limit.', async () => {
  const sizes: number[] = [];
  const commits = new GroupCommit<number, number>(async (changes) => {
    sizes.push(changes.length);
    return [...changes];
  }, 4);
  await Promise.all(Array.from({ length: 10 }, (_, index) => commits.submit(index)));
  assert.deepEqual(sizes, [4, 4, 2]);
});
