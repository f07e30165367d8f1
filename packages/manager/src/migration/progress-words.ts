import { SECOND } from '@virt-trust/base/instant.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';

const MIB = 2 ** 20;
/** A VM that writes as fast as it is sent goes on for hours without coming nearer: that, too, is told. */
const STANDSTILL_MS = 15 * SECOND;

/** Whether a migration has come so far since it was told last, or stands still for so long, that it is told again. */
export function isNews(told: MigrationProgress | null, now: MigrationProgress): boolean {
  if (told === null) return now.percent >= 10 || now.elapsedMs >= STANDSTILL_MS;
  return (
    now.stage !== told.stage ||
    Math.floor(now.percent / 10) > Math.floor(told.percent / 10) ||
    now.elapsedMs - told.elapsedMs >= STANDSTILL_MS
  );
}

/** How far it is, for people, in one line. */
export function describeProgress(progress: MigrationProgress): string {
  const parts = [`${progress.stage} ${progress.percent.toFixed(0)} %`];
  const amount = (what: string, { remainingBytes, totalBytes }: NonNullable<MigrationProgress['memory']>) =>
    // What is there: more than all of it was sent where the VM writes on.
    parts.push(
      `${what} ${((totalBytes - remainingBytes) / MIB).toFixed(0)} of ${(totalBytes / MIB).toFixed(0)} MiB`,
    );
  if (progress.memory !== null) amount('memory', progress.memory);
  if (progress.disk !== null && progress.disk.totalBytes > 0) amount('disk', progress.disk);
  if (progress.iteration !== null && progress.iteration > 0) parts.push(`pass ${progress.iteration}`);
  parts.push(`${(progress.bytesPerSecond / MIB).toFixed(0)} MiB/s`);
  if (progress.estimatedSeconds !== null) parts.push(`about ${progress.estimatedSeconds} s left`);
  if (progress.expectedDowntimeMs !== null) parts.push(`downtime ${progress.expectedDowntimeMs} ms`);
  return parts.join(', ');
}
