import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';

const MIB = 2 ** 20;
type Amount = NonNullable<MigrationProgress['memory']>;

/** How far a migration is, as a bar with figures: the most important first, since a narrow terminal cuts the end. */
export function bar(progress: MigrationProgress): string {
  const { percent, memory, disk, iteration, bytesPerSecond, estimatedSeconds, expectedDowntimeMs } = progress;
  const filled = Math.round(percent / 5);
  return [
    `[${'#'.repeat(filled)}${'.'.repeat(20 - filled)}] ${percent.toFixed(0)} %`,
    `${(bytesPerSecond / MIB).toFixed(0)} MiB/s`,
    estimatedSeconds === null ? '' : `${estimatedSeconds} s left`,
    memory === null
      ? `${(progress.processedBytes / MIB).toFixed(0)} MiB`
      : `memory ${amount(memory)}${iteration === null || iteration === 0 ? '' : ` in pass ${iteration}`}`,
    disk === null || disk.totalBytes === 0 ? '' : `disk ${amount(disk)}`,
    expectedDowntimeMs === null ? '' : `downtime ${expectedDowntimeMs} ms`,
  ]
    .filter(Boolean)
    .join(', ');
}

function amount({ processedBytes, totalBytes }: Amount): string {
  return `${(processedBytes / MIB).toFixed(0)}/${(totalBytes / MIB).toFixed(0)} MiB`;
}
