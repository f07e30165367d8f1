import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { HostNetwork } from '@virt-trust/contract/model/inventory.ts';
import type { NetworkWatch } from '../ports/network-watch.ts';
import type { Document } from '../state/document.ts';
import type { NetworkWaker } from './kernel-watch.ts';
import { type Settling, settle } from './settling.ts';
import type { Timers } from './timers.ts';

export interface NetworkWatchParts {
  /** Where the last report is kept, so that a change while the agent was away is one. */
  readonly kept: Pick<Document<typeof HostNetwork>, 'read' | 'write'>;
  /** What the kernel has now. */
  readonly read: () => Promise<HostNetwork>;
  readonly hostName: () => string;
  readonly waker: (wake: () => void) => NetworkWaker;
  readonly timers: Timers;
  readonly emit: (kind: string, subject: string, message: string) => Promise<void>;
  readonly log: Log;
}

/** Changes that come closer to each other than this are one. */
const QUIET_MS = 250;
/** However many come, what they made is looked at so often. */
const LONGEST_MS = 2 * SECOND;
/** Looked anyway: the kernel drops messages when there are too many. */
const POLL_MS = MINUTE;
const POLL_UNWATCHED_MS = 5 * SECOND;
/** A name that is set tells nobody in this namespace; asking for it is one system call. */
const NAME_POLL_MS = 2 * SECOND;

/** Knows the host's interfaces, addresses and name as they are once they have come to rest, and tells of changes. */
export class HostNetworkWatch implements NetworkWatch {
  readonly #parts: NetworkWatchParts;
  #state: Settling = { report: null, memories: new Map() };
  #waker: NetworkWaker | undefined;
  #looked = false;
  #failed = false;
  #name = '';
  #looking: Promise<void> | undefined;
  #again = false;
  #burstAt: number | undefined;
  #cancelLook: () => void = () => {};
  #cancelPoll: () => void = () => {};
  #cancelName: () => void = () => {};
  #stopped = false;

  constructor(parts: NetworkWatchParts) {
    this.#parts = parts;
  }

  /** Looks once, then whenever something may have changed. */
  async start(): Promise<void> {
    try {
      this.#state = { report: (await this.#parts.kept.read()) ?? null, memories: new Map() };
    } catch (error) {
      this.#parts.log.warn({ reason: describeError(error) }, 'the last report of the network is lost');
    }
    // Watched from before the first look on, so that nothing falls between.
    this.#waker = this.#parts.waker(() => this.#wake());
    this.#watchName();
    await this.#look();
  }

  report(): HostNetwork | null {
    return this.#looked ? this.#state.report : null;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelLook();
    this.#cancelPoll();
    this.#cancelName();
    await this.#waker?.stop();
    await this.#looking;
  }

  #watchName(): void {
    this.#cancelName = this.#parts.timers.after(NAME_POLL_MS, () => {
      if (this.#parts.hostName() !== this.#name) this.#wake();
      this.#watchName();
    });
  }

  /** Looks when it has been quiet for a while. */
  #wake(): void {
    if (this.#stopped) return;
    const { timers } = this.#parts;
    const now = timers.now();
    this.#burstAt ??= now;
    this.#cancelLook();
    const wait = Math.min(QUIET_MS, this.#burstAt + LONGEST_MS - now);
    this.#cancelLook = timers.after(Math.max(0, wait), () => void this.#look());
  }

  /** One at a time; what happens during a look is for the next. */
  async #look(): Promise<void> {
    if (this.#stopped) return;
    if (this.#looking !== undefined) {
      this.#again = true;
      return;
    }
    this.#cancelLook();
    this.#cancelPoll();
    this.#burstAt = undefined;
    this.#looking = this.#lookNow().then((againMs) => {
      this.#looking = undefined;
      if (this.#stopped) return;
      if (this.#again) this.#wake();
      this.#again = false;
      const poll = this.#waker?.watching === true ? POLL_MS : POLL_UNWATCHED_MS;
      this.#cancelPoll = this.#parts.timers.after(Math.min(poll, againMs ?? poll), () => void this.#look());
    });
    await this.#looking;
  }

  /** Returns when the next look is needed, where that is before the next poll. */
  async #lookNow(): Promise<number | null> {
    const { read, timers, emit, kept, log } = this.#parts;
    let reading: HostNetwork;
    try {
      reading = await read();
      // Not even the loopback: whatever that was, it was no look at the network.
      if (reading.interfaces.length === 0)
        throw new TrustError('network.unreadable', 'failed', 'cannot read the interfaces: ip lists none');
    } catch (error) {
      if (!this.#failed) log.warn({ reason: describeError(error) }, 'cannot look at the network');
      this.#failed = true;
      return POLL_UNWATCHED_MS;
    }
    this.#failed = false;
    this.#name = reading.hostName;
    const { state, difference, held, againMs } = settle(this.#state, reading, timers.now());
    this.#state = state;
    this.#looked = true;
    for (const { name, ms } of held) {
      const seconds = Math.ceil(ms / SECOND);
      await emit(
        'network.held',
        name,
        `it loses addresses over and over: told of as it was for ${seconds} s or more`,
      );
    }
    if (difference === '' || state.report === null) return againMs;
    await emit('network.changed', 'host', difference);
    try {
      // After the event: what was not told is told again at the next start.
      await kept.write(state.report);
    } catch (error) {
      log.warn({ reason: describeError(error) }, 'the report of the network is not kept');
    }
    return againMs;
  }
}
