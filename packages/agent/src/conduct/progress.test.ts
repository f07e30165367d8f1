import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readJobStats } from '@virt-trust/libvirt/job-stats.ts';
import { progressAtEnd, progressOf } from './progress.ts';

const MIB = 2 ** 20;
const statsOf = (values: Record<string, number>, type = 2) =>
  readJobStats(
    type,
    Object.entries(values).map(([name, value]) => ({ name, kind: 'ullong', value: BigInt(value) })),
  );
const MEMORY = {
  data_total: 100 * MIB,
  data_processed: 30 * MIB,
  data_remaining: 60 * MIB,
  memory_bps: 12 * MIB,
  memory_iteration: 2,
  memory_dirty_rate: 512,
  memory_page_size: 4096,
};

describe('progressOf', () => {
  it('estimates the end by what goes and what is dirtied meanwhile', () => {
    const progress = progressOf(statsOf(MEMORY), false);
    assert.equal(progress?.percent, 40);
    assert.equal(progress?.estimatedSeconds, 6);
    assert.equal(progress?.stage, 'pre-copy');
  });

  it('estimates none where the VM writes faster than the network carries', () => {
    assert.equal(
      progressOf(statsOf({ ...MEMORY, memory_dirty_rate: 100_000 }), false)?.estimatedSeconds,
      null,
    );
  });

  it('tells which stage it is in', () => {
    const disks = { ...MEMORY, memory_iteration: 0, disk_total: 50 * MIB, disk_remaining: 20 * MIB };
    assert.equal(progressOf(statsOf(disks), false)?.stage, 'disks');
    assert.equal(progressOf(statsOf(MEMORY), true)?.stage, 'post-copy');
  });

  it('tells nothing where no job runs, or none has begun to send', () => {
    assert.equal(progressOf(statsOf(MEMORY, 0), false), undefined);
    assert.equal(progressOf(statsOf({}), false), undefined);
  });

  it('has nothing left of memory, disks and time at the end, whatever libvirt said last', () => {
    const seen = progressOf(
      statsOf({
        ...MEMORY,
        memory_total: 100 * MIB,
        memory_remaining: 60 * MIB,
        disk_total: 50 * MIB,
        disk_remaining: 20 * MIB,
      }),
      false,
    );
    assert.ok(seen !== undefined && seen.memory !== null && seen.disk !== null);
    const last = progressAtEnd(seen);
    assert.deepEqual(
      [
        last.percent,
        last.remainingBytes,
        last.memory?.remainingBytes,
        last.disk?.remainingBytes,
        last.estimatedSeconds,
      ],
      [100, 0, 0, 0, 0],
    );
    assert.equal(last.memory?.totalBytes, seen.memory.totalBytes);
    assert.equal(progressAtEnd({ ...seen, memory: null }).memory, null);
  });
});
