import { describeError } from '@virt-trust/base/error.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { watchedPaths } from './files.ts';
import { Rounds } from './rounds.ts';
import { ServedWatch } from './watch.ts';
import type { Workshop } from './workshop.ts';

/** What the rounds need of the engine, which applies. */
export interface RoundParts {
  readonly workshop: Workshop;
  readonly intervalMs: () => number;
  /** Whether an application waits for certificates, or for migrations, which may take for ever. */
  readonly waits: () => boolean;
  /** What holds while nothing is under way. */
  readonly settled: () => Promise<DesiredState | undefined>;
  /** How many applications there were: what was seen before one says nothing of what is after it. */
  readonly applications: () => number;
  /** Runs work while no application does. */
  readonly exclusively: (work: () => Promise<void>) => Promise<void>;
  /** Goes on with what is left to do, else repairs files, links and settings. */
  readonly check: () => Promise<void>;
}

/** The regular looks at a host: files, links and settings first, then what is served at every endpoint. */
export class HostRounds {
  readonly served: ServedWatch;
  readonly #parts: RoundParts;
  readonly #rounds: Rounds;
  /** Whether the daemon may be as a reload that was killed left it, since it did not answer. */
  #held = false;
  readonly #stopping = new AbortController();
  #watching = false;

  constructor(parts: RoundParts) {
    const { workshop, intervalMs } = parts;
    this.#parts = parts;
    this.served = new ServedWatch(workshop);
    this.#rounds = new Rounds({
      round: () => this.round(),
      intervalMs,
      watched: () => watchedPaths(workshop),
    });
  }

  /** Begins a round shortly; others follow. */
  soon(): void {
    this.#rounds.soon();
  }

  stop(): void {
    this.#stopping.abort();
    this.#rounds.stop();
  }

  /** Looks at everything once; what waits is not disturbed, but a certificate may expire meanwhile. */
  async round(): Promise<void> {
    const { workshop, waits, settled, applications, exclusively, check } = this.#parts;
    const { effects } = workshop.options;
    if (this.#held) await this.letClientsIn();
    if (waits()) return await this.rescue();
    await exclusively(check);
    await this.#lookAfterMigrations();
    const [desired, before] = [await settled(), applications()];
    if (desired === undefined) return;
    const facts = await effects.facts();
    const sightings = await this.served.look(desired, facts);
    this.#held = sightings.some(({ service, seen }) => service === 'libvirt' && seen.kind === 'nothing');
    await exclusively(async () => {
      if ((await settled()) !== desired || applications() !== before) return;
      await this.served.conclude(desired, facts, sightings);
    });
  }

  /** What a migration kept from being repaired, or reloaded, is looked at once it is over. */
  async #lookAfterMigrations(): Promise<void> {
    const { effects, log } = this.#parts.workshop.options;
    if (this.#watching || (await effects.migrations()).length === 0) return;
    this.#watching = true;
    const watch = async () => {
      const { signal } = this.#stopping;
      while (!signal.aborted && (await effects.migrations()).length > 0)
        await effects.migrationsChange(signal);
      if (!signal.aborted) this.soon();
    };
    void watch()
      .catch((error) => log.debug({ reason: describeError(error) }, 'cannot watch migrations'))
      .finally(() => {
        this.#watching = false;
      });
  }

  /** Opens a daemon that a reload which was killed left closed, before anything waits for it. */
  async letClientsIn(): Promise<void> {
    const { effects, emit, log } = this.#parts.workshop.options;
    try {
      if (await effects.letClientsIn())
        await emit(
          'repair.done',
          'libvirt',
          'a reload that was killed had left it closed to clients; open again',
        );
    } catch (error) {
      // A daemon that is stopped holds nobody up.
      log.debug({ reason: describeError(error) }, 'cannot ask for the limits of clients');
    }
  }

  /** Keeps a set whose time is not now from keeping VMs from starting. */
  async rescue(): Promise<void> {
    const { rescuer, options } = this.#parts.workshop;
    const { ended, failed } = await rescuer.run();
    for (const { service, reason } of await rescuer.untold())
      await options.emit('rescue.made', service, `goes on with a set of the host's own: ${reason}`);
    for (const service of ended) await options.emit('rescue.ended', service, 'serves its own set again');
    for (const reason of failed) options.log.warn({ reason }, 'no rescue');
  }
}
