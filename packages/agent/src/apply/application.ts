import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Workshop } from '../served/workshop.ts';
import type { HostFacts } from '../services/host-effects.ts';
import type { Journal, Transition } from '../sets/apply-state.ts';
import type { DaemonRestart } from './daemon-restart.ts';
import { runJournal, type StepContext, Stopped } from './run.ts';
import { STEPS } from './steps.ts';

/** Steps that may take for ever; what comes meanwhile takes their place. */
const WAITING: ReadonlySet<string | undefined> = new Set(['await-certificates', 'await-migrations']);

/** What an application knows of the engine around it. */
export interface ApplicationParts {
  readonly workshop: Workshop;
  readonly restart: DaemonRestart;
  readonly isStopped: () => boolean;
  /** Why the desired state that is being applied holds no longer; undefined while it does. */
  readonly supersededBy: (desired: DesiredState) => string | undefined;
  /** Resolves at the next change that a waiting step may wait for. */
  readonly changed: () => Promise<void>;
  /** How long a restart waits for migrations at most. */
  readonly waitSeconds: () => number;
  /** Called when the list is done, before nothing is under way any more. */
  readonly applied: () => Promise<void>;
}

/** The one application, or removal, that is under way, with its journal; nothing where none is. */
export class Application {
  readonly #parts: ApplicationParts;
  #journal: Journal | undefined;
  #facts: HostFacts | undefined;
  #count = 0;
  #abandoned: Transition[] = [];

  constructor(parts: ApplicationParts) {
    this.#parts = parts;
  }

  get journal(): Journal | undefined {
    return this.#journal;
  }

  get isUnderWay(): boolean {
    return this.#journal !== undefined;
  }

  /** The step that is done now; undefined while nothing is under way. */
  get step(): string | undefined {
    return this.#journal?.steps[this.#journal.at];
  }

  /** Whether its step may take for ever. */
  get waits(): boolean {
    return WAITING.has(this.step);
  }

  /** The host as it was seen last. */
  get facts(): HostFacts | undefined {
    return this.#facts;
  }

  /** How many there were, so that what was seen before one is not taken for what is after it. */
  get count(): number {
    return this.#count;
  }

  /** Looks at the host anew; what cannot be looked at stays as it was seen. */
  async look(): Promise<void> {
    this.#facts = await this.#parts.workshop.options.effects.facts().catch(() => this.#facts);
  }

  /** Takes up what a crash or reboot interrupted; `run` goes on with it. */
  async read(): Promise<void> {
    this.#journal = await this.#parts.workshop.journal.read();
  }

  /** Makes a list durable; `run` does it. */
  async begin(journal: Journal): Promise<void> {
    const { workshop } = this.#parts;
    if (journal.kind === 'applying') await workshop.reserve.take();
    await workshop.verdict.remove();
    await workshop.journal.write(journal);
    this.#journal = journal;
  }

  /** Transitions whose requests still wait, of an application that a newer one replaced; told once. */
  takeAbandoned(): Transition[] {
    const abandoned = this.#abandoned;
    this.#abandoned = [];
    return abandoned;
  }

  /** Does the list to its end, also one that goes back; answers whether it ended, or a newer one takes its place. */
  async run(): Promise<{ readonly journal: Journal; readonly isOver: boolean }> {
    const journal = this.#journal;
    if (journal === undefined) throw new TrustError('apply.no_journal', 'internal', 'cannot run: no journal');
    const { workshop } = this.#parts;
    const context = await this.#contextOf(journal);
    this.#facts = context.facts;
    try {
      await runJournal(STEPS, context);
    } catch (error) {
      // Nothing was taken away yet: what came meanwhile takes its place.
      if (!isTrustError(error, 'apply.superseded')) throw error;
      await workshop.journal.remove();
      this.#journal = undefined;
      return { journal, isOver: false };
    }
    const done = context.journal;
    // What replaces this one joins its wait.
    if (done.failure?.failure.code !== 'apply.superseded') await workshop.waiting.remove();
    await workshop.journal.remove();
    await workshop.reserve.release();
    await this.#parts.applied();
    this.#journal = undefined;
    this.#count++;
    return { journal: done, isOver: true };
  }

  async #contextOf(journal: Journal): Promise<StepContext> {
    const { workshop, changed, waitSeconds, restart } = this.#parts;
    const application = this;
    return {
      workshop,
      facts: await workshop.options.effects.facts(),
      get journal() {
        return application.#journal ?? journal;
      },
      set journal(value: Journal) {
        application.#journal = value;
      },
      changed,
      checkWaiting: () => this.#checkWaiting(),
      waitSeconds,
      waits: (wait) => restart.setWait(wait),
    };
  }

  /** Called by a step that waits: throws where it waits in vain. */
  #checkWaiting(): void {
    if (this.#parts.isStopped()) throw new Stopped();
    const { kind, desired, transitions } = this.#journal ?? {};
    if (desired == null || (kind !== 'applying' && kind !== 'switching-off')) return;
    const why = this.#parts.supersededBy(desired);
    if (why === undefined) return;
    if (this.waits) this.#abandoned = (transitions ?? []).filter(({ request }) => request);
    throw new TrustError(
      'apply.superseded',
      'conflict',
      `cannot finish desired state ${desired.epoch}.${desired.number}: ${why}`,
    );
  }
}
