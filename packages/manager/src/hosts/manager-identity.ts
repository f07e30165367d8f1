import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { type ChannelIdentity, createChannelIdentity } from '@virt-trust/channel/identity.ts';
import { putManagers } from '@virt-trust/contract/agent/operations.ts';
import type { AgentIdentity, ManagerPins } from '@virt-trust/contract/model/agent-identity.ts';
import type { JobContext } from '../jobs/job.ts';
import type { Host } from './host.ts';
import type { HostsContext, ManagerIdentities } from './ports.ts';

export type IdentityPosition = 'current' | 'next' | 'previous';

/** Where the manager's channel keys and the numbers against replay are kept. Each method is one durable unit of work. */
export interface ManagerIdentityStore {
  get(position: IdentityPosition): Promise<ChannelIdentity<'manager'> | null>;
  put(position: IdentityPosition, identity: ChannelIdentity<'manager'>): Promise<void>;
  /** `next` becomes `current`, `current` becomes `previous`. */
  promote(): Promise<void>;
  /** Destroys `previous`. */
  retire(): Promise<void>;
  number(name: string): Promise<number>;
  /** Adds one and returns it. */
  raise(name: string): Promise<number>;
}

const PINS_NUMBER = 'manager_pins';
const EPOCH = 'epoch';

/** The manager's own channel keys: the one in use, the announced next one, and the former until all hosts let it go. */
export class ManagerIdentity implements ManagerIdentities {
  readonly #store: ManagerIdentityStore;
  readonly #randomness: Randomness;
  readonly epoch: number;
  #current: ChannelIdentity<'manager'>;

  private constructor(
    store: ManagerIdentityStore,
    randomness: Randomness,
    epoch: number,
    current: ChannelIdentity<'manager'>,
  ) {
    this.#store = store;
    this.#randomness = randomness;
    this.epoch = epoch;
    this.#current = current;
  }

  /** Takes the keys into service; makes the first at the first start. */
  static async open(store: ManagerIdentityStore, randomness: Randomness): Promise<ManagerIdentity> {
    const epoch = (await store.number(EPOCH)) || (await store.raise(EPOCH));
    if ((await store.get('current')) === null) {
      await store.put('current', await createChannelIdentity({ role: 'manager', randomness }));
      await store.raise(PINS_NUMBER);
    }
    const current = await store.get('current');
    if (current === null)
      throw new TrustError('manager.no_identity', 'internal', 'cannot start: the manager has no channel key');
    return new ManagerIdentity(store, randomness, epoch, current);
  }

  get current(): ChannelIdentity<'manager'> {
    return this.#current;
  }

  async describe(): Promise<AgentIdentity> {
    const [next, previous] = [await this.#store.get('next'), await this.#store.get('previous')];
    return { current: this.#current.pin, next: next?.pin ?? null, previous: previous?.pin ?? null };
  }

  async managerPins(): Promise<ManagerPins> {
    const all = [this.#current, await this.#store.get('next'), await this.#store.get('previous')];
    const pins = all.flatMap((identity) => (identity === null ? [] : [identity.pin]));
    return { epoch: this.epoch, number: await this.#store.number(PINS_NUMBER), pins };
  }

  /**
   * Replaces the manager's key on every host, over the channels: announced everywhere, then used, then the old one let
   * go everywhere. A host that is away stops it before anything is taken away from anybody.
   */
  async roll(context: HostsContext, job: JobContext): Promise<string> {
    const hosts = await context.repository.list();
    await job.step('Announce the next key to every host', async (report) => {
      if ((await this.#store.get('previous')) === null && (await this.#store.get('next')) === null) {
        await this.#store.put(
          'next',
          await createChannelIdentity({ role: 'manager', randomness: this.#randomness }),
        );
        await this.#store.raise(PINS_NUMBER);
      }
      await this.#tellAll(hosts, context, job);
      report(`${hosts.length} hosts`);
    });
    await job.step('Use the next key', async (report) => {
      if ((await this.#store.get('next')) !== null) await this.#store.promote();
      this.#current = (await this.#store.get('current')) ?? this.#current;
      context.channels.useIdentity(this.#current);
      await Promise.all(hosts.map((host) => context.channels.redial(host)));
      report(this.#current.pin);
    });
    await job.step('Retire the old key on every host', async () => {
      await this.#store.retire();
      await this.#store.raise(PINS_NUMBER);
      await this.#tellAll(hosts, context, job);
    });
    return `the manager is known by ${this.#current.pin} now on ${hosts.length} hosts`;
  }

  async #tellAll(hosts: readonly Host[], context: HostsContext, job: JobContext): Promise<void> {
    const pins = await this.managerPins();
    const outcomes = await Promise.all(hosts.map((host) => tell(host, pins, context, job)));
    const away = outcomes.filter((outcome) => outcome !== null);
    if (away.length === 0) return;
    throw new TrustError(
      'rollover.hosts_away',
      'unavailable',
      `cannot roll the manager's key: ${away.join('; ')}`,
      {
        hint: 'bring these hosts up, or remove them with --force, and run the same command again; both keys are trusted until then',
      },
    );
  }
}

async function tell(
  host: Host,
  pins: ManagerPins,
  context: HostsContext,
  job: JobContext,
): Promise<string | null> {
  try {
    const channel = await context.channels.of(host);
    await channel.waitUntilUp(job.signal);
    await channel.agent.call(putManagers, { body: pins }, { signal: job.signal });
    return null;
  } catch (error) {
    job.signal.throwIfAborted();
    return `host ${host.name}: ${describeError(error)}`;
  }
}
