import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { cancelMigration, getMigration } from '@virt-trust/contract/agent/migration-operations.ts';
import type { MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { whyAway } from '../hosts/away.ts';
import { type HostChannel, isChannelLost } from '../hosts/channels.ts';
import type { JobContext } from '../jobs/job.ts';
import { Cancelled } from '../jobs/job-runner.ts';
import { describeProgress, isNews } from './progress-words.ts';

/** How long a conducting agent may be away, a boot of its host included, before the job says that it cannot know. */
export const AWAY_LIMIT = 15 * MINUTE;

/** A migration that an agent conducts, and who is told of it. */
export interface Followed {
  readonly channel: HostChannel;
  /** The host whose agent conducts. */
  readonly conductor: string;
  readonly vm: string;
  readonly job: JobContext;
  readonly report: (detail: string) => void;
  /** Is told how far it is, whenever that is news. */
  readonly onProgress: (words: string) => void;
}

/**
 * Follows a migration to its end, over as many sessions of the channel as that takes. A cancelled job cancels it and
 * waits for its end; a manager that stops leaves it to the agent. Throws `migration.conductor_away` where the agent
 * does not come back.
 */
export async function followMigration(followed: Followed): Promise<MigrationStatus> {
  const { channel, job, report, conductor, vm } = followed;
  const stopping = stoppingOf(job);
  let told: MigrationProgress | null = null;
  const cancelling = new Cancelling(followed);
  try {
    for (;;) {
      stopping.signal.throwIfAborted();
      try {
        await cancelling.retry();
        const status = await channel.agent.call(
          getMigration,
          { params: { id: job.id }, query: { wait: 10 } },
          { signal: stopping.signal },
        );
        job.migration(status);
        if (isEnd(status)) return status;
        report(describeStage(status));
        if (status.progress === null || !isNews(told, status.progress)) continue;
        told = status.progress;
        followed.onProgress(describeProgress(told));
      } catch (error) {
        stopping.signal.throwIfAborted();
        if (!isChannelLost(error)) throw error;
        report(
          `the agent on ${conductor} is away (${whyAway(channel.state)}); the migration goes on without it`,
        );
        await channel.waitUntilUp(stopping.signal, AWAY_LIMIT).catch((cause: unknown) => {
          stopping.signal.throwIfAborted();
          throw away(vm, conductor, cause);
        });
      }
    }
  } finally {
    cancelling.close();
    stopping.close();
  }
}

/** Whether nothing more comes of it. */
export function isEnd({ phase }: MigrationStatus): boolean {
  switch (phase) {
    case 'requested':
    case 'running':
      return false;
    case 'done':
    case 'failed':
    case 'cancelled':
    case 'operator-needed':
      return true;
  }
}

/** Sends the cancellation of the job on to the agent, again once the channel is back. */
class Cancelling {
  readonly #followed: Followed;
  readonly #onAbort = () => void this.retry().catch(() => {});
  #told = false;

  constructor(followed: Followed) {
    this.#followed = followed;
    followed.job.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Throws where the channel is lost. */
  async retry(): Promise<void> {
    const { job, channel } = this.#followed;
    if (this.#told || !(job.signal.reason instanceof Cancelled)) return;
    this.#told = true;
    try {
      await channel.agent.call(cancelMigration, { params: { id: job.id } });
    } catch (error) {
      if (!isChannelLost(error)) return;
      this.#told = false;
      throw error;
    }
  }

  close(): void {
    this.#followed.job.signal.removeEventListener('abort', this.#onAbort);
  }
}

/** Aborted where the manager stops, and not where somebody cancelled: the end of that is waited for. */
function stoppingOf({ signal }: JobContext): { readonly signal: AbortSignal; close(): void } {
  const controller = new AbortController();
  const onAbort = () => {
    if (!(signal.reason instanceof Cancelled)) controller.abort(signal.reason);
  };
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort);
  return { signal: controller.signal, close: () => signal.removeEventListener('abort', onAbort) };
}

function away(vm: string, conductor: string, cause: unknown): TrustError {
  return new TrustError(
    'migration.conductor_away',
    'failed',
    `cannot say what became of ${vm}: the agent on ${conductor}, which conducts its migration, did not come back: ${describeError(cause)}`,
    { cause, ...(isTrustError(cause) && cause.hint !== undefined ? { hint: cause.hint } : {}) },
  );
}

function describeStage({ progress, step, phase }: MigrationStatus): string {
  if (progress === null) return step ?? phase;
  return describeProgress(progress);
}
