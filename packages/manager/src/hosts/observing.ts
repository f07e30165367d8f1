import { isDeepStrictEqual } from 'node:util';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { getObservedState } from '@virt-trust/contract/agent/operations.ts';
import type { HostChannel } from './channels.ts';
import type { Host, HostRepository } from './host.ts';

/** Who is told what a host was seen to be; must not throw. */
export type HostObserver = (host: Host, before: Host['observed']) => void;

/**
 * Reads hosts' observed states and keeps them: one read at a time for each host, so that an answer that is older never
 * takes the place of a newer one, whoever asked for it.
 */
export class Observing {
  readonly #repository: HostRepository;
  readonly #observers: HostObserver[] = [];
  readonly #turns = new Map<HostId, Promise<unknown>>();

  constructor(repository: HostRepository) {
    this.#repository = repository;
  }

  /** Tells the observer of every state that is read and is not as the one before. */
  onObserved(observer: HostObserver): void {
    this.#observers.push(observer);
  }

  /** Reads the host's state and keeps it, together with what `also` changes. */
  refresh(
    id: HostId,
    channel: HostChannel,
    signal: AbortSignal,
    also: (host: Host) => Host = (host) => host,
  ): Promise<Host> {
    return this.#inTurn(id, async () => {
      const observed = await channel.agent.call(getObservedState, {}, { signal });
      let before: Host['observed'] = null;
      const host = await this.#repository.update(id, (now) => {
        before = now.observed;
        const changed = also(now);
        return isDeepStrictEqual(changed.observed, observed) ? changed : { ...changed, observed };
      });
      if (host.observed !== before) for (const observer of this.#observers) observer(host, before);
      return host;
    });
  }

  #inTurn<T>(id: HostId, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(id) ?? Promise.resolve()).then(work, work);
    const settled = turn
      .catch(() => {})
      .then(() => {
        if (this.#turns.get(id) === settled) this.#turns.delete(id);
      });
    this.#turns.set(id, settled);
    return turn;
  }
}
