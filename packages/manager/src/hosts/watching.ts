import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { backOffDelay } from '@virt-trust/channel/backoff.ts';
import { type Sleep, systemSleep } from '@virt-trust/channel/sleep.ts';
import { listEvents } from '@virt-trust/contract/agent/operations.ts';
import type { AgentEvent } from '@virt-trust/contract/model/agent-event.ts';
import type { HostState } from '@virt-trust/contract/model/host.ts';
import { type HostChannel, type HostChannels, isChannelLost } from './channels.ts';
import type { Host, HostRepository } from './host.ts';
import type { Observing } from './observing.ts';
import { Slots } from './slots.ts';

/** Where it is kept up to which event each host was followed. */
export interface WatchStore {
  /** The sequence of the last event that was taken from the host; null before the first. */
  position(id: HostId): Promise<number | null>;
  /** Keeps the position and publishes the events as the manager's own, both or none. */
  advance(id: HostId, host: string, position: number, events: readonly AgentEvent[]): Promise<void>;
}

export interface WatchingParts {
  readonly repository: HostRepository;
  readonly channels: Pick<HostChannels, 'of'>;
  readonly observing: Observing;
  readonly store: WatchStore;
  readonly randomness: Randomness;
  readonly log: Log;
  /** Aborted when the manager stops. */
  readonly signal: AbortSignal;
  readonly sleep?: Sleep;
}

/** What comes within this time after an event is read together with it. */
const DEBOUNCE = SECOND / 2;
/** SECURITY: and within this where one event follows the other, so that a host cannot have itself read all the time. */
const LONGEST_DEBOUNCE = 5 * SECOND;
/** So many reads in a row are a host that is being worked on: what follows is not to wait for them. */
const QUICK_READS = 8;
/** What the agent tells once it has come to rest, and clients wait for. */
const AT_REST = 'network.changed';
/** SECURITY: a host that says more than this at a time is asked less often, so that it fills neither log nor disk. */
const TALKATIVE = 100;
const TALKATIVE_PAUSE = 10 * SECOND;
const BACK_OFF = { firstMs: SECOND, maxMs: 60 * SECOND };
/** How many hosts are read at one time: after a start of the manager all channels come up together. */
const READERS = 32;
/** A job works on it, follows it by itself, and leaves its state behind. */
const BUSY: ReadonlySet<HostState> = new Set(['enrolling', 'provisioning', 'removing']);

/**
 * Follows the events of every host whose channel is up, from where it was left, also by a manager before this one; reads
 * the host's state when something happened, and once when the channel comes up. A settled host costs one request a
 * minute, which waits at the host.
 */
export class Watching {
  readonly #parts: WatchingParts;
  readonly #sleep: Sleep;
  readonly #watches = new Map<HostId, AbortController>();
  /** Hosts that were not read because a job was at work on them. */
  readonly #left = new Set<HostId>();
  readonly #readers = new Slots(READERS);

  constructor(parts: WatchingParts) {
    this.#parts = parts;
    this.#sleep = parts.sleep ?? systemSleep;
  }

  /** The host's channel is up: it is followed until `down`. */
  up(id: HostId): void {
    if (this.#watches.has(id) || this.#parts.signal.aborted) return;
    const stop = new AbortController();
    this.#watches.set(id, stop);
    void this.#watch(id, AbortSignal.any([stop.signal, this.#parts.signal])).finally(() => {
      if (this.#watches.get(id) === stop) this.#watches.delete(id);
    });
  }

  /** The host's channel is down, or gone with the host. */
  down(id: HostId): void {
    this.#watches.get(id)?.abort();
    this.#watches.delete(id);
    this.#left.delete(id);
  }

  /** The host's document was written: the job that worked on it may have come to its end. */
  written(id: HostId): void {
    const signal = this.#watches.get(id)?.signal;
    if (!this.#left.has(id) || signal === undefined) return;
    void this.#hostOf(id)
      .then(async (host) => this.#read(id, await this.#parts.channels.of(host), signal))
      .catch(() => {
        // Whatever is wrong with the channel shows where it is followed; the host is read when it is up again.
      });
  }

  async #watch(id: HostId, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#follow(id, signal, () => {
          failures = 0;
        });
      } catch (error) {
        if (signal.aborted || isTrustError(error, 'host.unknown')) return;
        if (!isChannelLost(error))
          this.#parts.log.warn({ host: id, reason: describeError(error) }, 'following a host again');
        const pause = backOffDelay(BACK_OFF, failures + 1, this.#parts.randomness);
        await this.#sleep(pause, signal).catch(() => {});
      }
    }
  }

  async #follow(id: HostId, signal: AbortSignal, onSuccess: () => void): Promise<void> {
    const { store } = this.#parts;
    const host = await this.#hostOf(id);
    const channel = await this.#parts.channels.of(host);
    let position = await this.#catchUp(host, channel, await store.position(id), signal);
    await this.#read(id, channel, signal);
    let hurry = -1;
    for (;;) {
      const asked = performance.now();
      const wait = 45 + Math.floor(((this.#parts.randomness.bytes(1)[0] ?? 0) * 16) / 256);
      const page = await channel.agent.call(
        listEvents,
        { query: { after: position, wait, limit: 1 } },
        { signal },
      );
      onSuccess();
      hurry = performance.now() - asked > LONGEST_DEBOUNCE ? -1 : hurry;
      if (page.events.length === 0 && page.last >= position) continue;
      hurry += 1;
      const pause = pauseBefore(hurry, page.events[0]?.kind);
      if (page.events.length > 0 && pause > 0) await this.#sleep(pause, signal);
      // It may have another name by now.
      position = await this.#catchUp(await this.#hostOf(id), channel, position, signal);
      await this.#read(id, channel, signal);
    }
  }

  /** Takes what happened since; returns up to where. A host that is new, or begins anew, is taken as it is. */
  async #catchUp(
    host: Host,
    channel: HostChannel,
    from: number | null,
    signal: AbortSignal,
  ): Promise<number> {
    const { store } = this.#parts;
    let position = from ?? Number.MAX_SAFE_INTEGER;
    for (;;) {
      const page = await channel.agent.call(
        listEvents,
        { query: { after: position, limit: TALKATIVE } },
        { signal },
      );
      if (page.last < position) {
        position = page.last;
        await store.advance(host.id, host.name, position, []);
        return position;
      }
      const events = page.events.filter((event) => event.sequence > position);
      const last = events.at(-1);
      if (last === undefined) return position;
      position = last.sequence;
      await store.advance(host.id, host.name, position, events);
      if (position >= page.last) return position;
      await this.#sleep(TALKATIVE_PAUSE, signal);
    }
  }

  async #read(id: HostId, channel: HostChannel, signal: AbortSignal): Promise<void> {
    if (BUSY.has((await this.#hostOf(id)).state)) {
      this.#left.add(id);
      return;
    }
    this.#left.delete(id);
    await this.#readers.run(signal, () => this.#parts.observing.refresh(id, channel, signal));
  }

  async #hostOf(id: HostId): Promise<Host> {
    const host = await this.#parts.repository.get(id);
    if (host !== null) return host;
    throw new TrustError('host.unknown', 'not-found', `cannot follow host ${id}: it was removed`);
  }
}

/** How long more is waited for, after so many reads in quick succession. */
function pauseBefore(hurry: number, kind: string | undefined): number {
  if (hurry < QUICK_READS) return kind === AT_REST ? 0 : DEBOUNCE;
  return Math.min(LONGEST_DEBOUNCE, DEBOUNCE * 2 ** Math.min(hurry - QUICK_READS + 1, 10));
}
