import type { ManagerEvent } from '@virt-trust/contract/model/manager-event.ts';

/** Something that happened, before the log gives it its place. */
export interface EventDraft {
  /** `job.done`, `host.up`. */
  readonly kind: string;
  readonly subject: string;
  /** Words for people; never a secret. */
  readonly message: string;
}

/** Where events are kept. */
export interface EventStore {
  append(draft: EventDraft): Promise<void>;
  /** Events with a sequence above `after`, oldest first. */
  list(after: number, limit: number): Promise<ManagerEvent[]>;
  /** The newest sequence, 0 where there is none. */
  last(): Promise<number>;
}

const BATCH = 100;

/** The durable events of the manager, and who follows them in this process. */
export class EventLog {
  readonly #store: EventStore;
  readonly #waiting = new Set<() => void>();

  constructor(store: EventStore) {
    this.#store = store;
  }

  /** Keeps an event, and wakes those who follow. */
  async publish(draft: EventDraft): Promise<void> {
    await this.#store.append(draft);
    this.wake();
  }

  /** To be called after something else put events into the store, in a transaction of its own. */
  wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  /** Events after a sequence (from now on where undefined), until `signal`. A slow reader delays nobody and loses nothing. */
  async *follow(after: number | undefined, signal: AbortSignal): AsyncGenerator<ManagerEvent> {
    let position = after ?? (await this.#store.last());
    while (!signal.aborted) {
      // Registered before reading, so that what comes between reading and waiting is not missed.
      const { promise, done } = this.#next(signal);
      try {
        const events = await this.#store.list(position, BATCH);
        for (const event of events) {
          position = event.sequence;
          yield event;
        }
        if (events.length === 0) await promise;
      } finally {
        done();
      }
    }
  }

  #next(signal: AbortSignal): { promise: Promise<void>; done: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    const abort = (): void => resolve();
    signal.addEventListener('abort', abort, { once: true });
    return {
      promise,
      done: () => {
        this.#waiting.delete(resolve);
        signal.removeEventListener('abort', abort);
      },
    };
  }
}
