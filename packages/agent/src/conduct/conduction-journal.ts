import type { Journal } from './outcome.ts';

/** How far a conduction is; each change is durable before what follows it is begun. */
export class ConductionJournal {
  readonly #write: (journal: Journal) => Promise<void>;
  #journal: Journal = { step: 'connect', uuid: null, finishSent: false, wasPaused: false, isPostCopy: false };

  constructor(write: (journal: Journal) => Promise<void>) {
    this.#write = write;
  }

  /** As it was noted last. */
  get now(): Journal {
    return this.#journal;
  }

  async note(change: Partial<Journal>): Promise<void> {
    this.#journal = { ...this.#journal, ...change };
    await this.#write(this.#journal);
  }
}
