import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { formatInstant, type Instant, instant, MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { wakeAt } from '@virt-trust/base/timer.ts';
import { backOffDelay } from '@virt-trust/channel/backoff.ts';
import type { SettingsRetry } from '@virt-trust/contract/model/host.ts';

/** A daemon that is stopped, or a host that boots, is back after the first ones; what stays broken costs little. */
const BACK_OFF = { firstMs: 30 * SECOND, maxMs: 30 * MINUTE };

export interface SettingsRetriesParts {
  /** To be called when it is time to look at the host again. */
  readonly wake: (id: HostId) => void;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly signal: AbortSignal;
}

interface Attempt extends SettingsRetry {
  readonly cancel: () => void;
}

/**
 * When hosts are brought their settings again where that failed. Kept in memory alone: when the manager starts, each
 * channel comes up, and every host is looked at.
 */
export class SettingsRetries {
  readonly #parts: SettingsRetriesParts;
  readonly #attempts = new Map<HostId, Attempt>();

  constructor(parts: SettingsRetriesParts) {
    this.#parts = parts;
    parts.signal.addEventListener('abort', () => {
      for (const { cancel } of this.#attempts.values()) cancel();
      this.#attempts.clear();
    });
  }

  /** It could not be brought there: tried again after a pause that grows with each time, up to a bound. */
  failed(id: HostId, error: unknown): SettingsRetry {
    return this.#arm(id, (this.#attempts.get(id)?.failures ?? 0) + 1, describeError(error).slice(0, 4000));
  }

  /** Another job works on the host: whether it brought it there is seen after a pause; nothing counts as a failure. */
  postponed(id: HostId): void {
    const { failures = 0, reason = '' } = this.#attempts.get(id) ?? {};
    this.#arm(id, failures, reason);
  }

  /** It has what it is to have, or is to have something else by now. */
  over(id: HostId): void {
    this.#attempts.get(id)?.cancel();
    this.#attempts.delete(id);
  }

  /** What failed of a host, and when it is tried again; null where nothing did. */
  of(id: HostId): SettingsRetry | null {
    const attempt = this.#attempts.get(id);
    if (attempt === undefined || attempt.failures === 0) return null;
    const { failures, at, reason } = attempt;
    return { failures, at, reason };
  }

  #arm(id: HostId, failures: number, reason: string): SettingsRetry {
    const { clock, randomness, wake, signal } = this.#parts;
    this.#attempts.get(id)?.cancel();
    const delay = backOffDelay(BACK_OFF, Math.max(1, failures), randomness);
    const at = instant(Math.ceil((clock.now() + delay) / SECOND) * SECOND);
    const cancel = signal.aborted ? () => {} : wakeAt(clock, at, () => wake(id));
    this.#attempts.set(id, { failures, at, reason, cancel });
    return { failures, at, reason };
  }
}

/** The error of a job that is tried again, which says when. */
export function triedAgain(error: unknown, at: Instant): TrustError {
  const when = `tried again by itself at ${formatInstant(at)}, or once the host's channel is up again, as long as it has not what settings say`;
  if (!isTrustError(error))
    return new TrustError('host.settings', 'failed', describeError(error), { hint: when, cause: error });
  const { code, category, message, context, hint, cause } = error;
  return new TrustError(code, category, message, {
    hint: hint === undefined ? when : `${hint}; ${when}`,
    context,
    ...(cause === undefined ? {} : { cause }),
  });
}
