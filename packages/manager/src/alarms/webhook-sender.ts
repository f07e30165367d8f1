import { randomUUID } from 'node:crypto';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { backOffDelay } from '@virt-trust/channel/backoff.ts';
import { type Sleep, systemSleep } from '@virt-trust/channel/sleep.ts';
import { sendWebhook, type WebhookAnswer } from './webhook-request.ts';
import type { Delivery, WebhookStore } from './webhook-store.ts';

export interface WebhookSenderParts {
  readonly store: WebhookStore;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  /** Aborted when the manager stops. */
  readonly signal: AbortSignal;
  readonly onAttempt?: (taken: boolean) => void;
  readonly sleep?: Sleep;
  readonly timeoutMs?: number;
}

const TIMEOUT = 10 * SECOND;
const BACK_OFF = { firstMs: SECOND, maxMs: 5 * MINUTE };

/**
 * Brings what waits in the outbox to the webhook: one after the other in order, each until it is taken. A delivery that
 * was taken just before a crash goes out again under the same id.
 */
export class WebhookSender {
  readonly #parts: WebhookSenderParts;
  readonly #sleep: Sleep;
  readonly #timeoutMs: number;
  #woken = Promise.withResolvers<void>();
  /** Aborted to end a pause: the webhook was set anew. */
  #pause = new AbortController();
  #done: Promise<void> = Promise.resolve();

  constructor(parts: WebhookSenderParts) {
    this.#parts = parts;
    this.#sleep = parts.sleep ?? systemSleep;
    this.#timeoutMs = parts.timeoutMs ?? TIMEOUT;
  }

  start(): void {
    this.#done = this.#run();
    this.#parts.signal.addEventListener('abort', () => this.wake());
  }

  /** Resolves once nothing is sent any more; after the signal was aborted. */
  async stop(): Promise<void> {
    await this.#done;
  }

  /** Something was put into the outbox. */
  wake(): void {
    this.#woken.resolve();
  }

  /** The webhook was set anew: it is tried at once. */
  reset(): void {
    this.#pause.abort();
    this.#pause = new AbortController();
    this.wake();
  }

  /** Sends one request that says nothing but that it is a test. */
  async test(): Promise<WebhookAnswer | null> {
    const target = await this.#parts.store.target();
    if (target === null) return null;
    const id = randomUUID();
    const body = JSON.stringify({ id, event: 'webhook.test', at: this.#parts.clock.now(), alarm: null });
    return this.#send(target, { id, event: 'webhook.test', body });
  }

  async #run(): Promise<void> {
    const { signal, log } = this.#parts;
    for (let failures = 0; !signal.aborted; ) {
      // Taken before looking, so that what comes in between is not missed.
      const woken = this.#woken;
      const outcome = await this.#one().catch((error: unknown) => {
        if (!signal.aborted) log.error({}, `cannot deliver to the webhook: ${describeError(error)}`);
        return 'failed' as const;
      });
      if (outcome === 'taken') failures = 0;
      if (outcome === 'nothing') {
        failures = 0;
        await woken.promise;
        this.#woken = Promise.withResolvers();
      }
      if (outcome !== 'failed') continue;
      failures += 1;
      const pause = backOffDelay(BACK_OFF, failures, this.#parts.randomness);
      const until = AbortSignal.any([signal, this.#pause.signal]);
      await this.#sleep(pause, until).catch(() => {
        failures = 0;
      });
    }
  }

  async #one(): Promise<'taken' | 'failed' | 'nothing'> {
    const { store, onAttempt } = this.#parts;
    const target = await store.target();
    const delivery = target === null ? null : await store.first();
    if (target === null || delivery === null) return 'nothing';
    const answer = await this.#send(target, delivery);
    onAttempt?.(answer.taken);
    if (answer.taken) await store.delivered(delivery);
    else await store.failed(answer.words);
    return answer.taken ? 'taken' : 'failed';
  }

  #send(
    target: { readonly url: string; readonly secret: string },
    { id, event, body }: Pick<Delivery, 'id' | 'event' | 'body'>,
  ): Promise<WebhookAnswer> {
    return sendWebhook({
      ...target,
      deliveryId: id,
      event,
      body,
      now: this.#parts.clock.now(),
      timeoutMs: this.#timeoutMs,
      signal: this.#parts.signal,
    });
  }
}
