import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readJobStats } from './job-stats.ts';
import type { TypedParameter } from './typed-params.ts';

const of = (values: Record<string, bigint>): TypedParameter[] =>
  Object.entries(values).map(([name, value]) => ({ name, kind: 'ullong', value }));

describe('virDomainGetJobStats', () => {
  it('tells of memory, disks, pass and rates; a rate of pages is told in bytes', () => {
    const stats = readJobStats(
      2,
      of({
        time_elapsed: 1500n,
        data_total: 300n,
        data_processed: 100n,
        data_remaining: 200n,
        memory_total: 200n,
        memory_processed: 50n,
        memory_remaining: 150n,
        disk_total: 100n,
        disk_processed: 50n,
        disk_remaining: 50n,
        memory_bps: 1000n,
        disk_bps: 10n,
        memory_iteration: 3n,
        memory_dirty_rate: 2n,
        memory_page_size: 4096n,
        downtime: 300n,
        auto_converge_throttle: 20n,
      }),
    );
    assert.deepEqual(stats, {
      isActive: true,
      elapsedMs: 1500,
      data: { totalBytes: 300, processedBytes: 100, remainingBytes: 200 },
      memory: { totalBytes: 200, processedBytes: 50, remainingBytes: 150 },
      disk: { totalBytes: 100, processedBytes: 50, remainingBytes: 50 },
      memoryBytesPerSecond: 1000,
      diskBytesPerSecond: 10,
      iteration: 3,
      dirtyBytesPerSecond: 8192,
      downtimeMs: 300,
      throttlePercent: 20,
    });
  });

  it('has nothing where libvirt says nothing', () => {
    const stats = readJobStats(0, []);
    assert.deepEqual([stats.isActive, stats.memory, stats.disk, stats.iteration], [false, null, null, null]);
  });

  it('makes a count of whatever comes', () => {
    const name = fc.constantFrom(
      'data_total',
      'memory_dirty_rate',
      'memory_page_size',
      'downtime',
      'disk_total',
    );
    const parameter = fc.oneof(
      fc.record({ name, kind: fc.constant('ullong'), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
      fc.record({
        name,
        kind: fc.constant('llong'),
        value: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      }),
      fc.record({ name, kind: fc.constant('double'), value: fc.double() }),
      fc.record({ name, kind: fc.constant('string'), value: fc.string() }),
    ) as fc.Arbitrary<TypedParameter>;
    fc.assert(
      fc.property(fc.integer(), fc.array(parameter), (type, params) => {
        const { data, dirtyBytesPerSecond, downtimeMs } = readJobStats(type, params);
        for (const count of [data.totalBytes, dirtyBytesPerSecond ?? 0, downtimeMs ?? 0])
          assert.ok(Number.isSafeInteger(count) && count >= 0, String(count));
      }),
    );
  });
});
