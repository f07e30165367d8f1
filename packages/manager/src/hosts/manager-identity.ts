import { TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { type ChannelIdentity, createChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { AgentIdentity, ManagerPins } from '@virt-trust/contract/model/agent-identity.ts';
import type { ManagerIdentities } from './ports.ts';

type Identity = ChannelIdentity<'manager'>;

export type IdentityPosition = 'current' | 'next' | 'previous';

/**
 * Whether this store was restored from a backup and the fleet has not been heard of since: `looking` for who it is to
 * its agents, or `rolled` on to the key that they knew as its next.
 */
export type Recovery = 'none' | 'looking' | 'rolled';

/** Where the manager's channel keys and the numbers against replay are kept. Each method is one durable unit of work. */
export interface ManagerIdentityStore {
  get(position: IdentityPosition): Promise<Identity | null>;
  /** Keeps a key and raises the number of the pins. */
  put(position: 'current' | 'next', identity: Identity): Promise<void>;
  /** `next` becomes `current`, `current` becomes `previous`, `next` is the given one, and the number is raised. */
  promote(next: Identity): Promise<void>;
  /** Destroys `previous` and, where there was one, raises the number. */
  retire(): Promise<void>;
  /** Goes before each number that agents hold against replay; 1 at the first start. */
  epoch(): Promise<number>;
  pinsNumber(): Promise<number>;
  recovery(): Promise<Recovery>;
  setRecovery(recovery: Recovery): Promise<void>;
}

interface Keys {
  readonly current: Identity;
  /** Made and announced ahead, so that a store restored from before a rollover has the key that came into use. */
  readonly next: Identity;
  readonly previous: Identity | null;
}

/** The manager's own channel keys: the one in use, its standby, and the former until all hosts let it go. */
export class ManagerIdentity implements ManagerIdentities {
  readonly #store: ManagerIdentityStore;
  readonly #randomness: Randomness;
  readonly epoch: number;
  #keys: Keys;
  #number: number;
  #recovery: Recovery;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(
    store: ManagerIdentityStore,
    randomness: Randomness,
    read: { epoch: number; keys: Keys; number: number; recovery: Recovery },
  ) {
    this.#store = store;
    this.#randomness = randomness;
    this.epoch = read.epoch;
    this.#keys = read.keys;
    this.#number = read.number;
    this.#recovery = read.recovery;
  }

  /** Takes the keys into service; makes those that are missing. */
  static async open(store: ManagerIdentityStore, randomness: Randomness): Promise<ManagerIdentity> {
    for (const position of ['current', 'next'] as const) {
      if ((await store.get(position)) === null) await store.put(position, await makeKey(randomness));
    }
    const read = {
      epoch: await store.epoch(),
      keys: await readKeys(store),
      number: await store.pinsNumber(),
      recovery: await store.recovery(),
    };
    return new ManagerIdentity(store, randomness, read);
  }

  get current(): Identity {
    return this.#keys.current;
  }

  /** All keys, the one in use first. */
  get all(): readonly Identity[] {
    const { current, next, previous } = this.#keys;
    return previous === null ? [current, next] : [current, next, previous];
  }

  get recovery(): Recovery {
    return this.#recovery;
  }

  async describe(): Promise<AgentIdentity> {
    const { current, next, previous } = this.#keys;
    return { current: current.pin, next: next.pin, previous: previous?.pin ?? null };
  }

  async managerPins(): Promise<ManagerPins> {
    return { epoch: this.epoch, number: this.#number, pins: this.all.map(({ pin }) => pin) };
  }

  /** Takes the standby into use and makes a new one; again with the same pin it changes nothing. */
  useNext(pin: SpkiPin): Promise<void> {
    return this.#change(async () => {
      if (this.#keys.current.pin === pin) return;
      if (this.#keys.next.pin !== pin) {
        throw new TrustError(
          'rollover.unknown_pin',
          'conflict',
          `cannot use key ${pin}: it is not the next one`,
          { hint: 'see them with: virt-trust manager identity' },
        );
      }
      await this.#store.promote(await makeKey(this.#randomness));
      if (this.#recovery === 'looking') await this.#setRecovery('rolled');
    });
  }

  /** Destroys the former key. */
  retire(): Promise<void> {
    return this.#change(() => this.#store.retire());
  }

  /** The fleet knows this manager again, as it is now. */
  recovered(): Promise<void> {
    return this.#change(() => this.#setRecovery('none'));
  }

  async #setRecovery(recovery: Recovery): Promise<void> {
    await this.#store.setRecovery(recovery);
    this.#recovery = recovery;
  }

  /** One after the other, so that nobody makes a second standby beside the first. */
  #change(work: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(async () => {
      await work();
      const [keys, number] = [await readKeys(this.#store), await this.#store.pinsNumber()];
      this.#keys = keys;
      this.#number = number;
    });
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function makeKey(randomness: Randomness): Promise<Identity> {
  return createChannelIdentity({ role: 'manager', randomness });
}

async function readKeys(store: ManagerIdentityStore): Promise<Keys> {
  const [current, next] = [await store.get('current'), await store.get('next')];
  if (current === null || next === null)
    throw new TrustError('manager.no_identity', 'internal', 'cannot start: the manager has no channel key');
  return { current, next, previous: await store.get('previous') };
}
