import type { TypedParameter } from './typed-params.ts';

/** Bytes of memory or disks that are under way. */
interface JobAmount {
  readonly totalBytes: number;
  readonly processedBytes: number;
  readonly remainingBytes: number;
}

/** What libvirt says of a VM's job (`virDomainGetJobStats`); null where it does not say. */
export interface JobStats {
  /** Whether a job runs. */
  readonly isActive: boolean;
  readonly elapsedMs: number;
  readonly data: JobAmount;
  readonly memory: JobAmount | null;
  readonly disk: JobAmount | null;
  readonly memoryBytesPerSecond: number;
  readonly diskBytesPerSecond: number;
  /** The pass over memory, from 1. */
  readonly iteration: number | null;
  readonly dirtyBytesPerSecond: number | null;
  /** What QEMU expects the pause to be. */
  readonly downtimeMs: number | null;
  readonly throttlePercent: number | null;
}

/** `virDomainJobType`: of a job with and without a known end. */
const ACTIVE_TYPES = [1, 2];
const DEFAULT_PAGE = 4096;

/** Reads the answer of DOMAIN_GET_JOB_STATS. */
export function readJobStats(type: number, params: readonly TypedParameter[]): JobStats {
  const values = new Map<string, number>();
  for (const { name, value } of params) {
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number === 'number' && Number.isFinite(number) && number >= 0)
      values.set(name, Math.min(Math.round(number), Number.MAX_SAFE_INTEGER));
  }
  const get = (name: string) => values.get(name) ?? 0;
  const amount = (what: string): JobAmount => ({
    totalBytes: get(`${what}_total`),
    processedBytes: get(`${what}_processed`),
    remainingBytes: get(`${what}_remaining`),
  });
  const some = (what: string) => (get(`${what}_total`) > 0 ? amount(what) : null);
  // In pages (qemuMonitorMigrationStats: "pages/s").
  const dirtyPages = values.get('memory_dirty_rate');
  const iteration = values.get('memory_iteration');
  return {
    isActive: ACTIVE_TYPES.includes(type),
    elapsedMs: get('time_elapsed'),
    data: amount('data'),
    memory: some('memory'),
    disk: some('disk'),
    memoryBytesPerSecond: get('memory_bps'),
    diskBytesPerSecond: get('disk_bps'),
    iteration: iteration === undefined || iteration === 0 ? null : iteration,
    dirtyBytesPerSecond:
      dirtyPages === undefined
        ? null
        : Math.min(dirtyPages * (values.get('memory_page_size') ?? DEFAULT_PAGE), Number.MAX_SAFE_INTEGER),
    downtimeMs: values.get('downtime') ?? null,
    throttlePercent: values.get('auto_converge_throttle') ?? null,
  };
}
