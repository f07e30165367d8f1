import type { Clock } from '@virt-trust/base/clock.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';

/** Tells of what others can cause as often as they like, at most `perMinute` in any minute, and how much went untold. */
export class BoundedEvents {
  readonly #tell: (subject: string, message: string) => void;
  readonly #clock: Clock;
  readonly #perMinute: number;
  #windowStart = 0;
  #told = 0;
  #untold = 0;

  constructor(tell: (subject: string, message: string) => void, clock: Clock, perMinute: number) {
    this.#tell = tell;
    this.#clock = clock;
    this.#perMinute = perMinute;
  }

  happened(subject: string, message: string): void {
    const now = this.#clock.now();
    // A clock that was set back starts a new window as well.
    if (now - this.#windowStart >= MINUTE || now < this.#windowStart) {
      this.#windowStart = now;
      this.#told = 0;
    }
    if (this.#told >= this.#perMinute) {
      this.#untold++;
      return;
    }
    this.#told++;
    const more = this.#untold === 0 ? '' : ` (and ${this.#untold} more before)`;
    this.#untold = 0;
    this.#tell(subject, `${message}${more}`);
  }
}
