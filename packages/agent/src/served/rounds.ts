import { type FSWatcher, watch } from 'node:fs';

/** Files close to each other in time are one change. */
const SOON_MS = 300;

/** A directory with the names in it whose change calls for a look. */
export type Watched = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * Repeats a round of looking: in intervals, and soon after somebody touched a file that matters. Polling alone must
 * suffice, since the kernel may have no watch left to give.
 */
export class Rounds {
  readonly #round: () => Promise<void>;
  readonly #intervalMs: () => number;
  readonly #watched: () => Promise<Watched>;
  readonly #watchers = new Map<string, FSWatcher>();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(parts: {
    readonly round: () => Promise<void>;
    readonly intervalMs: () => number;
    readonly watched: () => Promise<Watched>;
  }) {
    this.#round = parts.round;
    this.#intervalMs = parts.intervalMs;
    this.#watched = parts.watched;
  }

  /** Begins the next round shortly; one that is under way is followed by another. */
  soon(): void {
    this.#again = this.#running !== undefined;
    if (this.#running === undefined) this.#in(SOON_MS);
  }

  /** Ends; a round that is under way is the last. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #in(milliseconds: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#run();
    }, milliseconds);
    this.#timer.unref();
  }

  async #run(): Promise<void> {
    try {
      await this.#round();
      if (!this.#stopped) this.#watch(await this.#watched());
    } catch {
      // Said by the round itself; the next one comes all the same.
    } finally {
      this.#running = undefined;
      const wait = this.#again ? SOON_MS : this.#intervalMs();
      this.#again = false;
      this.#in(wait);
    }
  }

  #watch(wanted: Watched): void {
    for (const [directory, watcher] of this.#watchers) {
      if (wanted.has(directory)) continue;
      watcher.close();
      this.#watchers.delete(directory);
    }
    for (const [directory, names] of wanted) {
      if (this.#watchers.has(directory)) continue;
      try {
        const watcher = watch(directory, { persistent: false }, (_, name) => {
          if (name !== null && names.has(name)) this.soon();
        });
        const drop = () => this.#watchers.delete(directory);
        watcher.on('error', drop).on('close', drop);
        this.#watchers.set(directory, watcher);
      } catch {
        // Gone meanwhile, or no watch left: the next round looks anyway.
      }
    }
  }
}
