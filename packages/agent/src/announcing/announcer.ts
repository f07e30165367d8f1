import { describeError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { Announced } from '@virt-trust/channel/announcement.ts';
import { backOffDelay } from '@virt-trust/channel/backoff.ts';
import { aborted, type Sleep, systemSleep } from '@virt-trust/channel/sleep.ts';

/** Where a manager listens for announcements. */
export interface AnnounceTarget {
  readonly address: string;
  readonly port: number;
}

export interface AnnouncerParts {
  readonly announceTo: () => Promise<readonly AnnounceTarget[]>;
  readonly announce: (target: AnnounceTarget, signal: AbortSignal) => Promise<Announced>;
  /** How many managers are connected. */
  readonly channels: () => number;
  /** A manager proved its key at the target, and comes from the addresses. */
  readonly onAnnounced: (target: AnnounceTarget, answer: Announced) => Promise<void>;
  readonly randomness: Randomness;
  readonly log: Log;
  readonly sleep?: Sleep;
}

/** After a start, or where addresses changed: the manager can't know where this host is. */
const MOVED = { firstMs: 8 * SECOND, maxMs: 10 * MINUTE };
/** Else the manager is away, and dials by itself when it is back. */
const LEFT_ALONE = { firstMs: 80 * SECOND, maxMs: 10 * MINUTE };

/**
 * Makes the agent known to its managers while none of them is connected: after seconds where its addresses changed,
 * else after a minute, and more and more seldom. The manager dials back; nothing goes over the announcement itself.
 */
export class Announcer {
  readonly #parts: AnnouncerParts;
  readonly #sleep: Sleep;
  readonly #stop = new AbortController();
  #changed = new AbortController();
  /** No manager came since the start, or since addresses changed. */
  #moved = true;
  #channels = 0;
  #attempts = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(parts: AnnouncerParts) {
    this.#parts = parts;
    this.#sleep = parts.sleep ?? systemSleep;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** A manager came or went. */
  channelsChanged(): void {
    const channels = this.#parts.channels();
    if (channels > this.#channels) this.#moved = false;
    this.#channels = channels;
    this.#changed.abort();
  }

  /** The host has other addresses than before. */
  addressesChanged(): void {
    this.#moved = true;
    this.#attempts = 0;
    this.#changed.abort();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const stop = this.#stop.signal;
    while (!stop.aborted) {
      if (this.#changed.signal.aborted) this.#changed = new AbortController();
      const signal = AbortSignal.any([stop, this.#changed.signal]);
      if (this.#parts.channels() > 0) {
        this.#attempts = 0;
        await aborted(signal);
        continue;
      }
      const times = this.#moved ? MOVED : LEFT_ALONE;
      const delay = backOffDelay(times, this.#attempts + 1, this.#parts.randomness);
      await this.#sleep(delay, signal).catch(() => {});
      if (signal.aborted) continue;
      await this.#announce(this.#attempts++, signal);
    }
  }

  /** To one manager, or address of a manager, after the other until one takes note; the next time it begins behind that. */
  async #announce(attempt: number, signal: AbortSignal): Promise<void> {
    const targets = await this.#parts.announceTo().catch(() => []);
    const from = targets.length === 0 ? 0 : attempt % targets.length;
    for (const target of [...targets.slice(from), ...targets.slice(0, from)]) {
      if (signal.aborted) return;
      try {
        await this.#parts.onAnnounced(target, await this.#parts.announce(target, signal));
        return;
      } catch (error) {
        if (!signal.aborted)
          this.#parts.log.info({ ...target, reason: describeError(error) }, 'announcement failed');
      }
    }
  }
}
