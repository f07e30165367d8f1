/** Lets a burst through, and then one at a time: for what a host can make happen as often as it likes. */
export class Pace {
  readonly #burst: number;
  readonly #everyMs: number;
  #left: number;
  #at: number;

  constructor(options: { readonly burst: number; readonly everyMs: number; readonly now: number }) {
    this.#burst = options.burst;
    this.#everyMs = options.everyMs;
    this.#left = options.burst;
    this.#at = options.now;
  }

  /** Takes a turn: 0 where there is one, else how many milliseconds there is none. */
  take(now: number): number {
    // A clock that was set back gives nothing.
    const passed = Math.max(0, now - this.#at);
    this.#left = Math.min(this.#burst, this.#left + passed / this.#everyMs);
    this.#at = now;
    if (this.#left < 1) return Math.ceil((1 - this.#left) * this.#everyMs);
    this.#left -= 1;
    return 0;
  }
}
