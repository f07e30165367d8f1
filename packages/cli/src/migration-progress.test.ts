import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { bar } from './migration-progress.ts';

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
