interface Waiting<Change, Outcome> {
  readonly change: Change;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Collects the changes of concurrent callers and makes them durable together: while one unit of work is being synced
 * the next one fills.
 */
export class GroupCommit<Change, Outcome> {
  readonly #commit: (changes: readonly Change[]) => Promise<readonly Outcome[]>;
  readonly #limit: number;
  #waiting: Waiting<Change, Outcome>[] = [];
  #busy = false;
  /** What was submitted last: units are written in order, so everything before it is settled with it. */
  #last: Promise<unknown> = Promise.resolve();

  /** `limit` bounds the changes of one unit, so that nobody waits for a very long one. */
  constructor(commit: (changes: readonly Change[]) => Promise<readonly Outcome[]>, limit = 256) {
    this.#commit = commit;
    this.#limit = limit;
  }

  /** Resolves once the change is durable; rejects with the reason for which the unit it was in failed. */
  submit(change: Change): Promise<Outcome> {
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
    this.#waiting.push({ change, resolve, reject });
    this.#last = promise;
    if (!this.#busy) {
      this.#busy = true;
      // After the callbacks of this turn: what arrived together is kept together.
      setImmediate(() => void this.#drain());
    }
    return promise;
  }

  /** Resolves once everything that was submitted before is durable, or has failed. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.#last]);
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const unit = this.#waiting.splice(0, this.#limit);
      try {
        const outcomes = await this.#commit(unit.map(({ change }) => change));
        for (const [index, { resolve }] of unit.entries()) resolve(outcomes[index] as Outcome);
      } catch (error) {
        for (const { reject } of unit) reject(error);
      }
      await new Promise(setImmediate);
    }
    this.#busy = false;
  }
}
