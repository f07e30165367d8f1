import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import type { JobStats } from '@virt-trust/libvirt/job-stats.ts';
import {
  ABORT_JOB_POSTCOPY,
  domainAbortJob,
  domainAbortJobFlags,
  domainMigrateSetMaxDowntime,
  domainMigrateSetMaxSpeed,
  domainMigrateStartPostCopy,
  domainSuspend,
  type RemoteDomain,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { isHeld } from './parameters.ts';
import { jobOf, progressOf } from './progress.ts';
import type { RpcClient } from './rpc-client.ts';

type Proof = NonNullable<MigrationStatus['proof']>;

const LOOK_MS = 500;
const FIRST_LOOK_MS = 100;
/** Looks at which a stream that has its credentials may still lack its connection. */
const CONNECTION_LOOKS = 20;
/** libvirt's own bound (QEMU_DOMAIN_MIG_BANDWIDTH_MAX): as fast as the network goes. */
const UNLIMITED_MIB = 8_796_093_022_207n;

export interface WatchParts {
  readonly order: MigrationOrder;
  readonly source: RpcClient;
  readonly domain: RemoteDomain;
  /** What carries the stream, as far as it is seen now. */
  readonly proof: {
    tls(): Promise<Pick<Proof, 'tlsCreds' | 'tlsHostname'> | undefined>;
    connection(): Promise<Proof['connection']>;
  };
  readonly now: () => number;
  readonly isCancelled: () => boolean;
  readonly onSeen: (seen: {
    readonly progress: MigrationProgress | undefined;
    readonly proof: Proof | undefined;
  }) => Promise<void>;
}

/** What a migration that runs is watched for: progress, what carries it, its time, and somebody who ends it. */
export class MigrationWatch {
  readonly #parts: WatchParts;
  readonly #startedAt: number;
  /** Whether nothing is left to see of what carries the stream; one that was held is let go then. */
  #released = false;
  #looks = 0;
  #downtimeSet = false;
  #isPostCopy = false;
  #timedOut = false;
  #aborted = false;
  #abandoned = false;
  /** Whether the destination was lost in post-copy, and how much had gone over when. */
  #mayBreak = false;
  #sent = { octets: -1, at: 0 };

  constructor(parts: WatchParts) {
    this.#parts = parts;
    this.#startedAt = parts.now();
  }

  /** Whether it was ended because its time was over. */
  get wasTimedOut(): boolean {
    return this.#timedOut && this.#parts.order.options.timeoutAction === 'abort';
  }

  /** Whether it was ended because its destination was lost, and by nobody's word. */
  get wasAbandoned(): boolean {
    return this.#abandoned;
  }

  get isPostCopy(): boolean {
    return this.#isPostCopy;
  }

  /**
   * Ends the transfer because nobody is there to take the VM. In post-copy there is no way back: that goes on for as long
   * as memory goes over, which it does without the destination's libvirt.
   */
  async abandon(): Promise<void> {
    this.#abandoned = !this.#aborted;
    await this.#abort().catch(() => {
      this.#abandoned = false;
      this.#mayBreak = true;
    });
  }

  /** Looks until the migration is over. */
  async run(over: AbortSignal): Promise<void> {
    while (!over.aborted && !this.#parts.source.isLost) {
      try {
        await this.#look();
      } catch {
        // The VM may be gone from here at any moment: the migration itself says how it ended.
      }
      await untilAborted(over, this.#released || !isHeld(this.#parts.order) ? LOOK_MS : FIRST_LOOK_MS);
    }
  }

  async #look(): Promise<void> {
    const { source, domain, isCancelled, onSeen } = this.#parts;
    const stats = await jobOf(source, domain);
    if (isCancelled() && !this.#isPostCopy) await this.#abort().catch(() => {});
    if (!stats.isActive) return;
    // What libvirt refuses is tried again at the next look, and keeps nothing else from being done.
    await this.#limitDowntime().catch(() => {});
    const proof = await this.#release().catch(() => undefined);
    await onSeen({ progress: progressOf(stats, this.#isPostCopy), proof });
    await this.#switchWhenTime(stats).catch(() => {});
    await this.#breakWhenStuck(stats);
  }

  /** Before the stream is let go, which may be over in a moment then. */
  async #limitDowntime(): Promise<void> {
    const { order, source, domain } = this.#parts;
    if (order.options.downtimeMs === 0 || this.#downtimeSet) return;
    const downtime = BigInt(order.options.downtimeMs);
    await source.call(domainMigrateSetMaxDowntime, { domain, downtime, flags: 0 });
    this.#downtimeSet = true;
  }

  /** Lets the stream go at its speed once it was seen what carries it. */
  async #release(): Promise<Proof | undefined> {
    const { order, source, domain } = this.#parts;
    if (this.#released) return undefined;
    if (order.mode === 'pinned') {
      this.#released = true;
      return undefined;
    }
    const seen = await this.#seen();
    // The stream of memory begins once the disks are there.
    if (!isHeld(order)) this.#released = seen?.connection !== undefined;
    if (seen === undefined || !isHeld(order)) return seen;
    const bandwidth = BigInt(order.options.bandwidthMiB) || UNLIMITED_MIB;
    await source.call(domainMigrateSetMaxSpeed, { domain, bandwidth, flags: 0 });
    this.#released = true;
    return seen;
  }

  async #seen(): Promise<Proof | undefined> {
    const { order, proof } = this.#parts;
    const tls = order.mode === 'tls' ? await proof.tls() : { tlsCreds: '', tlsHostname: '' };
    if (tls === undefined) return undefined;
    // What is not seen of the connection is no failure of the migration.
    const connection = await proof.connection().catch(() => undefined);
    if (connection === undefined) return isHeld(order) && ++this.#looks < CONNECTION_LOOKS ? undefined : tls;
    return { ...tls, connection };
  }

  async #switchWhenTime(stats: JobStats): Promise<void> {
    const { order, source, domain, now } = this.#parts;
    const { postCopy, timeoutSeconds, timeoutAction } = order.options;
    if (postCopy && !this.#isPostCopy && (stats.iteration ?? 0) > 1) await this.#startPostCopy();
    // From post-copy there is no way back, and no VM left here that could be suspended.
    if (timeoutSeconds === 0 || this.#timedOut || this.#isPostCopy) return;
    if (now() - this.#startedAt < timeoutSeconds * 1000) return;
    switch (timeoutAction) {
      case 'abort':
        await this.#abort();
        break;
      case 'suspend':
        await source.call(domainSuspend, { domain });
        break;
      case 'post-copy':
        await this.#startPostCopy();
        break;
    }
    this.#timedOut = true;
  }

  /** TCP would wait for a destination that is gone for a quarter of an hour, with the VM standing still on both hosts. */
  async #breakWhenStuck({ data }: JobStats): Promise<void> {
    const { order, source, domain, now } = this.#parts;
    if (!this.#mayBreak) return;
    if (data.processedBytes !== this.#sent.octets) this.#sent = { octets: data.processedBytes, at: now() };
    if (now() - this.#sent.at < order.doubtSeconds * 1000) return;
    await source.call(domainAbortJobFlags, { domain, flags: ABORT_JOB_POSTCOPY });
    this.#mayBreak = false;
  }

  async #startPostCopy(): Promise<void> {
    const { source, domain } = this.#parts;
    await source.call(domainMigrateStartPostCopy, { domain, flags: 0 });
    this.#isPostCopy = true;
  }

  async #abort(): Promise<void> {
    if (this.#aborted) return;
    const { source, domain } = this.#parts;
    await source.call(domainAbortJob, { domain });
    this.#aborted = true;
  }
}

/** Waits, but no longer than until the signal. */
async function untilAborted(signal: AbortSignal, milliseconds: number): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  const onAbort = () => resolve();
  signal.addEventListener('abort', onAbort, { once: true });
  await promise;
  clearTimeout(timer);
  signal.removeEventListener('abort', onAbort);
}
