import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';

const MIB = 2 ** 20;
/** A VM that writes as fast as it is sent goes on for hours without coming nearer: that, too, is told. */
const STANDSTILL_MS = 15_000;
type Amount = NonNullable<MigrationProgress['memory']>;

/** Where no line is redrawn: whether another is due, at each quarter of the way, at each stage and at a standstill. */
export function isLineDue(told: MigrationProgress | null, now: MigrationProgress): boolean {
  if (told === null) return now.percent >= 25 || now.elapsedMs >= STANDSTILL_MS;
  return (
    now.stage !== told.stage ||
    Math.floor(now.percent / 25) > Math.floor(told.percent / 25) ||
    now.elapsedMs - told.elapsedMs >= STANDSTILL_MS
  );
}

/** How far a migration is, as a bar with figures: the most important first, since a narrow terminal cuts the end. */
export function bar(progress: MigrationProgress): string {
  const { percent, memory, disk, iteration, bytesPerSecond, estimatedSeconds, expectedDowntimeMs, stage } =
    progress;
  const filled = Math.round(percent / 5);
  return [
    `[${'#'.repeat(filled)}${'.'.repeat(20 - filled)}] ${percent.toFixed(0)} %${stage === 'pre-copy' ? '' : `, ${stage}`}`,
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

/** What is there: more than all of it was sent where the VM writes on. */
function amount({ remainingBytes, totalBytes }: Amount): string {
  return `${((totalBytes - remainingBytes) / MIB).toFixed(0)}/${(totalBytes / MIB).toFixed(0)} MiB`;
}
