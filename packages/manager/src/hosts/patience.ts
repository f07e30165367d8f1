import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';

/** Timers can hold no more. */
const LONGEST_MS = 2 ** 31 - 1;

/** How long a host is waited for; longer where it says itself until when it waits. */
export class Patience implements Disposable {
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly #boundMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(boundMs: number, clock: Clock) {
    this.#boundMs = boundMs;
    this.#clock = clock;
    this.#arm(boundMs);
  }

  /** Aborted when it is over. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Begins anew once the host has waited. */
  extend(until: number): void {
    this.#arm(Math.max(0, until - this.#clock.now()) + this.#boundMs);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #arm(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => {
        const seconds = Math.round(this.#boundMs / 1000);
        this.#controller.abort(
          new TrustError(
            'host.slow',
            'unavailable',
            `cannot wait any longer: nothing came of it within ${seconds} s`,
            {
              hint: 'the host goes on by itself; see its state, then provision it again',
            },
          ),
        );
      },
      Math.min(milliseconds, LONGEST_MS),
    );
    this.#timer.unref();
  }
}
