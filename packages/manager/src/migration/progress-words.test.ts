import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { describeProgress, isNews } from './progress-words.ts';

const MIB = 2 ** 20;
const HALF = { totalBytes: 64 * MIB, processedBytes: 32 * MIB, remainingBytes: 32 * MIB };
const PROGRESS: MigrationProgress = {
  ...HALF,
  percent: 50,
  bytesPerSecond: 8 * MIB,
  memory: HALF,
  disk: null,
  iteration: 1,
  dirtyBytesPerSecond: null,
  estimatedSeconds: 4,
  expectedDowntimeMs: 300,
  elapsedMs: 4000,
  stage: 'pre-copy',
};

describe('progress of a migration in words', () => {
  it('is news at each tenth of the way and at each stage', () => {
    assert.equal(isNews(null, { ...PROGRESS, percent: 3 }), false);
    assert.equal(isNews(null, PROGRESS), true);
    assert.equal(isNews(null, { ...PROGRESS, percent: 3, elapsedMs: 15_000 }), true);
    assert.equal(isNews(PROGRESS, { ...PROGRESS, percent: 59 }), false);
    assert.equal(isNews(PROGRESS, { ...PROGRESS, percent: 60 }), true);
    assert.equal(isNews(PROGRESS, { ...PROGRESS, percent: 51, stage: 'post-copy' }), true);
  });

  it('is news again where it comes no nearer, since the VM writes as fast as it is sent', () => {
    const later = { ...PROGRESS, percent: 13, iteration: 9 };
    assert.equal(isNews(PROGRESS, { ...later, elapsedMs: 9000 }), false);
    assert.equal(isNews(PROGRESS, { ...later, elapsedMs: 19_000 }), true);
  });

  it('says how much is there and not how much was sent, which may be more than all', () => {
    const again = { totalBytes: 64 * MIB, processedBytes: 256 * MIB, remainingBytes: 56 * MIB };
    assert.match(
      describeProgress({ ...PROGRESS, ...again, memory: again, disk: HALF, percent: 12.5, iteration: 5 }),
      /^pre-copy 13 %, memory 8 of 64 MiB, disk 32 of 64 MiB, pass 5, 8 MiB\/s/,
    );
  });
});
