import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { ApplyOptions } from '../served/workshop.ts';
import { Stopped } from './run.ts';

export interface TurnParts {
  readonly log: Log;
  readonly emit: ApplyOptions['emit'];
  readonly isStopped: () => boolean;
  /** Called with what a piece of work failed with. */
  readonly failed: (error: unknown) => void;
}

/** One piece of work after the other; what fails is said, and holds up none that follows. */
export class Turns {
  readonly #parts: TurnParts;
  #last: Promise<unknown> = Promise.resolve();
  /** The last failure that was said. */
  #said: string | undefined;

  constructor(parts: TurnParts) {
    this.#parts = parts;
  }

  add(work: () => Promise<unknown>): void {
    this.#last = this.#last.then(() => this.#do(work));
  }

  /** Resolves when all that was added so far is over. */
  async idle(): Promise<void> {
    await this.#last;
  }

  async #do(work: () => Promise<unknown>): Promise<void> {
    const { log, emit, isStopped, failed } = this.#parts;
    if (isStopped()) return;
    try {
      await work();
      this.#said = undefined;
    } catch (error) {
      if (error instanceof Stopped) return;
      log.error({ error: describeError(error) }, 'application interrupted');
      failed(error);
      // What fails in every round is said once.
      if (this.#said === describeError(error)) return;
      this.#said = describeError(error);
      const code = isTrustError(error) ? error.code : 'apply.interrupted';
      await emit(code, 'host', describeError(error)).catch(() => {});
    }
  }
}
