import { describeError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Host } from '../hosts/host.ts';
import { type RenewalPlanner, servedBy } from './planner.ts';

export interface ReplannerParts {
  readonly planner: RenewalPlanner;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** After hosts were planned anew. */
  readonly onPlanned: () => void;
}

/** Plans hosts anew, one after the other and in the background, when something changed that their plans come from. */
export class Replanner {
  readonly #parts: ReplannerParts;
  readonly #waiting = new Set<string>();
  /** What was last planned of each host, so that a change of something else costs nothing. */
  readonly #seen = new Map<HostId, string>();
  #working: Promise<void> | undefined;

  constructor(parts: ReplannerParts) {
    this.#parts = parts;
  }

  /** A host was written: plans it where that changes what it serves or is to serve. */
  hostChanged(host: Host): void {
    const { id, name, cluster, declared } = host;
    const facts = JSON.stringify([name, cluster, declared, servedBy(host)]);
    if (this.#seen.get(id) === facts) return;
    this.#seen.set(id, facts);
    this.plan([name]);
  }

  hostRemoved(id: HostId): void {
    this.#seen.delete(id);
  }

  /** Plans hosts whatever was planned of them. */
  plan(names: Iterable<string>): void {
    for (const name of names) this.#waiting.add(name);
    if (this.#working !== undefined || this.#waiting.size === 0) return;
    this.#working = this.#work().finally(() => {
      this.#working = undefined;
      this.plan([]);
    });
  }

  async quiet(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  async #work(): Promise<void> {
    const { planner, log, signal, onPlanned } = this.#parts;
    // Others are served between two hosts.
    await new Promise(setImmediate);
    for (const name of this.#waiting) {
      this.#waiting.delete(name);
      if (signal.aborted) {
        this.#waiting.clear();
        return;
      }
      try {
        await planner.refresh(name);
      } catch (error) {
        log.error({ host: name }, `cannot plan renewals: ${describeError(error)}`);
      }
      await new Promise(setImmediate);
    }
    onPlanned();
  }
}
