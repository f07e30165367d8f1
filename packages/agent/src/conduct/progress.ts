import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { type JobStats, readJobStats } from '@virt-trust/libvirt/job-stats.ts';
import { domainGetJobStats, type RemoteDomain } from '@virt-trust/libvirt/migration-protocol.ts';
import type { RpcClient } from './rpc-client.ts';

/** What libvirt says of the VM's job. */
export async function jobOf(client: RpcClient, domain: RemoteDomain): Promise<JobStats> {
  const { type, params } = await client.call(domainGetJobStats, { domain, flags: 0 });
  return readJobStats(type, params);
}

/** Progress as it is told; undefined where no job runs or it tells nothing yet. */
export function progressOf(stats: JobStats, isPostCopy: boolean): MigrationProgress | undefined {
  const { data, memory, disk } = stats;
  if (!stats.isActive || data.totalBytes === 0) return undefined;
  const bytesPerSecond = stats.memoryBytesPerSecond + stats.diskBytesPerSecond;
  const done = Math.max(0, data.totalBytes - data.remainingBytes);
  const gain = bytesPerSecond - (stats.dirtyBytesPerSecond ?? 0);
  const diskGoes = disk !== null && disk.remainingBytes > 0 && (stats.iteration ?? 0) === 0;
  return {
    percent: Math.min(100, (done / data.totalBytes) * 100),
    ...data,
    bytesPerSecond,
    memory,
    disk,
    iteration: stats.iteration,
    dirtyBytesPerSecond: stats.dirtyBytesPerSecond,
    estimatedSeconds: gain > 0 ? Math.ceil(data.remainingBytes / gain) : null,
    expectedDowntimeMs: stats.downtimeMs,
    elapsedMs: stats.elapsedMs,
    stage: isPostCopy ? 'post-copy' : diskGoes ? 'disks' : 'pre-copy',
  };
}

/** The last that is told of a migration that arrived: libvirt's own last word was of a moment before its end. */
export function progressAtEnd(last: MigrationProgress): MigrationProgress {
  const none = { remainingBytes: 0 };
  return {
    ...last,
    ...none,
    percent: 100,
    memory: last.memory && { ...last.memory, ...none },
    disk: last.disk && { ...last.disk, ...none },
    estimatedSeconds: 0,
  };
}
