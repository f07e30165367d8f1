import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { bar, isLineDue } from './migration-progress.ts';

const MIB = 2 ** 20;
const PROGRESS: MigrationProgress = {
  percent: 50,
  processedBytes: 32 * MIB,
  remainingBytes: 32 * MIB,
  totalBytes: 64 * MIB,
  bytesPerSecond: 8 * MIB,
  memory: null,
  disk: null,
  iteration: null,
  dirtyBytesPerSecond: null,
  estimatedSeconds: null,
  expectedDowntimeMs: null,
  elapsedMs: 4000,
  stage: 'pre-copy',
};

test('a bar says what QEMU says and no more', () => {
  assert.equal(bar(PROGRESS), '[##########..........] 50 %, 8 MiB/s, 32 MiB');
  assert.equal(
    bar({
      ...PROGRESS,
      memory: { totalBytes: 64 * MIB, processedBytes: 32 * MIB, remainingBytes: 32 * MIB },
      disk: { totalBytes: 10 * MIB, processedBytes: 5 * MIB, remainingBytes: 5 * MIB },
      iteration: 3,
      estimatedSeconds: 4,
      expectedDowntimeMs: 300,
    }),
    '[##########..........] 50 %, 8 MiB/s, 4 s left, memory 32/64 MiB in pass 3, disk 5/10 MiB, downtime 300 ms',
  );
});

test('a bar never has more or fewer than twenty places', () => {
  for (const percent of [0, 1, 49.9, 99.9, 100]) assert.equal(bar({ ...PROGRESS, percent }).indexOf(']'), 21);
});

test('a bar says how much is there, and the stage where it is another than the usual', () => {
  const again = { totalBytes: 64 * MIB, processedBytes: 256 * MIB, remainingBytes: 56 * MIB };
  assert.match(
    bar({ ...PROGRESS, percent: 12.5, memory: again, iteration: 5, stage: 'post-copy' }),
    /\] 13 %, post-copy, 8 MiB\/s, memory 8\/64 MiB in pass 5/,
  );
});

test('without a terminal a line comes at each quarter, at each stage, and where it comes no nearer', () => {
  assert.equal(isLineDue(null, { ...PROGRESS, percent: 20 }), false);
  assert.equal(isLineDue(null, PROGRESS), true);
  assert.equal(isLineDue(PROGRESS, { ...PROGRESS, percent: 74 }), false);
  assert.equal(isLineDue(PROGRESS, { ...PROGRESS, percent: 75 }), true);
  assert.equal(isLineDue(PROGRESS, { ...PROGRESS, stage: 'post-copy' }), true);
  assert.equal(isLineDue(PROGRESS, { ...PROGRESS, percent: 13, elapsedMs: 19_000 }), true);
});
