import { isDeepStrictEqual } from 'node:util';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { getObservedState } from '@virt-trust/contract/agent/operations.ts';
import type { HostChannel } from './channels.ts';
import type { Host, HostRepository } from './host.ts';

/**
 * Reads hosts' observed states and keeps them: one read at a time for each host, so that an answer that is older never
 * takes the place of a newer one, whoever asked for it. Who wants to know listens to the repository.
 */
export class Observing {
  readonly #repository: HostRepository;
  readonly #turns = new Map<HostId, Promise<unknown>>();

  constructor(repository: HostRepository) {
    this.#repository = repository;
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
      return this.#repository.update(id, (now) => {
        const changed = also(now);
        return isDeepStrictEqual(changed.observed, observed) ? changed : { ...changed, observed };
      });
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
