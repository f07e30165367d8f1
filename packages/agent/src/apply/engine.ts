import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type {
  CertificateRequest,
  Failure,
  IssuedCertificate,
  ObservedState,
  ProofVerdict,
} from '@virt-trust/contract/model/observed-state.ts';
import type { ApplyEngine } from '../ports.ts';
import { HostRounds } from '../served/host-rounds.ts';
import { Document } from '../state/document.ts';
import { endOf } from './application-end.ts';
import { certificateRequestsOf, takeCertificates, takeVerdicts } from './certificate-exchange.ts';
import { DaemonRestart } from './daemon-restart.ts';
import { failureOf } from './failure.ts';
import { givingBackJournal, type RemovalOutcome } from './giving-back.ts';
import { checkHost } from './guard.ts';
import type { HostFacts } from './host-effects.ts';
import { judgeDesired } from './judge-desired.ts';
import { observe } from './observe.ts';
import { desiredFromOlder } from './older-state.ts';
import { planJournal } from './plan-journal.ts';
import { clearLeft } from './removal.ts';
import { runJournal, type StepContext, Stopped } from './run.ts';
import type { Journal, Transition } from './state.ts';
import { STEPS } from './steps.ts';
import { Turns } from './turns.ts';
import { type ApplyOptions, Workshop } from './workshop.ts';

export interface EngineOptions extends ApplyOptions {
  readonly mode: ObservedState['mode'];
  /** How often the host is looked at where the desired state does not say; null for never by itself. */
  readonly checkIntervalMs: number | null;
  /** What is reported of the host's network; nothing where left out. */
  readonly network?: () => ObservedState['network'];
  /** What is reported of what the host can do in migrations; nothing where left out. */
  readonly capabilities?: () => ObservedState['capabilities'];
  /** Called when an application is over, before that is said: what is reported with it is known then. */
  readonly applied?: () => Promise<void>;
  /** Called when a restart begins or ceases to wait for migrations. */
  readonly onWait?: () => void;
}

/** Steps that may take for ever; what comes meanwhile takes their place. */
const WAITING: ReadonlySet<string | undefined> = new Set(['await-certificates', 'await-migrations']);
/** A removal may find no desired state any more. */
const DEFAULT_WAIT_SECONDS = 3600;

/**
 * Applies what the manager wants of this host: one application at a time, journaled, so that a kill or a reboot at
 * any point leaves a whole set served and the next start goes on.
 */
export class JournaledEngine implements ApplyEngine {
  readonly #options: EngineOptions;
  readonly #workshop: Workshop;
  readonly #desired: Document<typeof DesiredState>;
  #changed = Promise.withResolvers<void>();
  readonly #turns: Turns;
  readonly #restart: DaemonRestart;
  #journal: Journal | undefined;
  #wanted: DesiredState | undefined;
  #facts: HostFacts | undefined;
  /** Why nothing goes on, where that could not be written down: a full disk, say. Tried again at the next occasion. */
  #stuck: Failure | undefined;
  #removing = false;
  #stopped = false;
  /** Counts applications, so that what was seen before one is not taken for what is after it. */
  #applications = 0;
  readonly #rounds: HostRounds;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#workshop = new Workshop(options);
    this.#turns = new Turns({
      log: options.log,
      emit: options.emit,
      isStopped: () => this.#stopped,
      failed: (error) => {
        this.#stuck = failureOf(error, this.#step ?? 'begin', options.clock.now());
      },
    });
    this.#restart = new DaemonRestart({
      step: () => this.#step,
      isStopped: () => this.#stopped,
      onWait: () => options.onWait?.(),
    });
    this.#rounds = new HostRounds({
      workshop: this.#workshop,
      intervalMs: () =>
        (this.#wanted?.settings.probeSeconds ?? 0) * SECOND || (options.checkIntervalMs ?? MINUTE),
      waits: () => WAITING.has(this.#step),
      settled: () => this.#settled(),
      applications: () => this.#applications,
      exclusively: (work) => this.#exclusively(work),
      check: () => this.#check(),
    });
    this.#desired = new Document(
      options.paths.desiredState,
      DesiredState,
      'Remove it and provision the host again; what is served stays as it is meanwhile.',
      desiredFromOlder,
    );
  }

  /** Goes on with what a crash or reboot interrupted, then looks whether all is as it was left. */
  async start(): Promise<void> {
    this.#wanted = await this.#desired.read();
    this.#journal = await this.#workshop.journal.read();
    this.#removing = this.#journal?.kind === 'removing';
    this.#turns.add(() => this.#rounds.letClientsIn());
    this.#turns.add(() => this.#proceed());
    this.#turns.add(() => this.#check());
    if (this.#options.checkIntervalMs !== null) this.#rounds.soon();
  }

  /** Leaves what is under way where it stands; the next start goes on with it. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    this.#rounds.stop();
    await this.#turns.idle();
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#turns.idle();
  }

  /** Takes what the manager wants; throws `desired_state.stale` for anything older than the agent has. */
  async putDesiredState(desired: DesiredState): Promise<ObservedState> {
    if (this.#options.mode === 'observe') {
      throw new TrustError('agent.observes_only', 'denied', 'cannot change this host: it is only observed', {
        hint: 'enrol it again without --observe',
      });
    }
    if (this.#removing) throw removing();
    if (judgeDesired(this.#wanted, desired) === 'known') return await this.observedState();
    await this.#desired.write(desired);
    this.#wanted = desired;
    this.#wake();
    this.#turns.add(() => this.#proceed());
    return await this.observedState();
  }

  async desiredState(): Promise<DesiredState | null> {
    return this.#wanted ?? null;
  }

  async observedState(): Promise<ObservedState> {
    const busy = this.#journal !== undefined || !(await this.#holds());
    if (!busy) this.#facts = await this.#options.effects.facts().catch(() => this.#facts);
    const stuck = busy ? this.#stuck : undefined;
    const observed = await observe({
      workshop: this.#workshop,
      mode: this.#options.mode,
      wanted: this.#wanted,
      journal: this.#journal,
      facts: this.#facts,
      busy: busy && stuck === undefined,
      served: await this.#rounds.served.endpoints(),
      network: this.#options.network?.() ?? null,
      wait: this.#restart.wait,
      capabilities: this.#options.capabilities?.() ?? null,
    });
    if (stuck === undefined || this.#wanted === undefined) return observed;
    const { epoch, number } = this.#wanted;
    return { ...observed, epoch, number, failure: stuck };
  }

  reloadWaits(): string[] {
    return this.#restart.words();
  }

  async beforeMigration(): Promise<void> {
    await this.#restart.beforeMigration();
  }

  /** Whether the host is being changed now, and does not just wait. */
  get isUnderWay(): boolean {
    return this.#journal !== undefined && !WAITING.has(this.#step);
  }

  get #step(): string | undefined {
    return this.#journal?.steps[this.#journal.at];
  }

  get #waitSeconds(): number {
    return this.#wanted?.settings.migrationWaitSeconds ?? DEFAULT_WAIT_SECONDS;
  }

  /** The requests that wait for the manager. */
  async certificateRequests(): Promise<CertificateRequest[]> {
    return await certificateRequestsOf(this.#workshop, this.#journal);
  }

  async putCertificates(certificates: readonly IssuedCertificate[]): Promise<ObservedState> {
    await takeCertificates(this.#workshop, this.#journal, certificates);
    this.#wake();
    return await this.observedState();
  }

  async postProofs(verdicts: readonly ProofVerdict[]): Promise<ObservedState> {
    await takeVerdicts(this.#workshop, this.#journal, verdicts);
    this.#wake();
    return await this.observedState();
  }

  /** Gives the host back what was found on it; repeated after a crash it goes on. */
  async remove(): Promise<RemovalOutcome> {
    this.#removing = true;
    this.#wake();
    const { promise, resolve, reject } = Promise.withResolvers<RemovalOutcome>();
    this.#turns.add(() => this.#remove().then(resolve, reject));
    return await promise;
  }

  async #remove(): Promise<RemovalOutcome> {
    const before = await this.#finishJournal();
    if (before?.kind === 'removing') return { restored: before.restored, left: before.left };
    if ((await this.#workshop.found.read()) === undefined) {
      await this.#desired.remove();
      this.#wanted = undefined;
      const off = before?.kind === 'switching-off' ? before : undefined;
      return { restored: off?.restored ?? [], left: off?.left ?? (await this.#workshop.state()).left ?? [] };
    }
    await this.#begin(await givingBackJournal(this.#workshop, { kind: 'removing' }));
    const done = await this.#run();
    this.#wanted = undefined;
    await this.#rounds.served.forget();
    await this.#options.emit('removal.done', 'host', `gave back ${done.restored.length} paths`);
    return { restored: done.restored, left: done.left };
  }

  /** Lets an interrupted application end, by going back where it would have to wait; ends an interrupted removal. */
  async #finishJournal(): Promise<Journal | undefined> {
    return this.#journal === undefined ? undefined : await this.#run();
  }

  /** Applies until what is wanted holds, or failed. */
  async #proceed(): Promise<void> {
    this.#stuck = undefined;
    if (this.#journal !== undefined) await this.#run();
    while (!this.#removing && !this.#stopped && !(await this.#holds())) {
      const desired = this.#wanted;
      if (desired === undefined) return;
      if (desired.settings.tls === 'off') {
        await this.#switchOff(desired);
        continue;
      }
      const journal = await this.#planOrFail(desired);
      if (journal === undefined) continue;
      // Asked again for what it has, the host looks whether that is there still. Settings that are new are no
      // disturbance: they are applied with the way back.
      if (journal.transitions.length === 0 && !journal.steps.includes('write-settings'))
        await this.#checkHost(desired);
      await this.#begin(journal);
      await this.#run();
    }
  }

  /** TLS off: the host has its own back, and the agent goes on. */
  async #switchOff(desired: DesiredState): Promise<void> {
    await this.#begin(await givingBackJournal(this.#workshop, { kind: 'switching-off', desired }));
    await this.#run();
    await this.#rounds.served.forget();
  }

  async #holds(): Promise<boolean> {
    const desired = this.#wanted;
    if (desired === undefined) return true;
    const { epoch, number } = await this.#workshop.state();
    return epoch === desired.epoch && number === desired.number;
  }

  /** Where not even a plan can be made, that is what became of the desired state. */
  async #planOrFail(desired: DesiredState): Promise<Journal | undefined> {
    try {
      const waiting = this.#abandoned;
      this.#abandoned = [];
      return await planJournal(this.#workshop, desired, waiting);
    } catch (error) {
      const failure = failureOf(error, 'plan', this.#options.clock.now());
      const { epoch, number } = desired;
      await this.#workshop.saveState({ ...(await this.#workshop.state()), epoch, number, failure });
      await this.#options.emit('apply.failed', 'settings', `${failure.message} (step plan)`);
      return undefined;
    }
  }

  /** Transitions whose requests still wait, of an application that a newer one replaced. */
  #abandoned: Transition[] = [];

  async #begin(journal: Journal): Promise<void> {
    if (journal.kind === 'applying') await this.#workshop.reserve.take();
    await this.#workshop.verdict.remove();
    await this.#workshop.journal.write(journal);
    this.#journal = journal;
  }

  async #run(): Promise<Journal> {
    const journal = this.#journal;
    if (journal === undefined) throw new TrustError('apply.no_journal', 'internal', 'cannot run: no journal');
    const engine = this;
    const context: StepContext = {
      workshop: this.#workshop,
      facts: await this.#options.effects.facts(),
      get journal() {
        return engine.#journal ?? journal;
      },
      set journal(value: Journal) {
        engine.#journal = value;
      },
      changed: () => this.#changed.promise,
      checkWaiting: () => this.#checkWaiting(),
      waitSeconds: () => this.#waitSeconds,
      waits: (wait) => this.#restart.setWait(wait),
    };
    this.#facts = context.facts;
    try {
      await runJournal(STEPS, context);
    } catch (error) {
      // Nothing was taken away yet: what came meanwhile takes its place.
      if (!isTrustError(error, 'apply.superseded')) throw error;
      await this.#workshop.journal.remove();
      this.#journal = undefined;
      return journal;
    }
    const done = context.journal;
    // What replaces this one joins its wait.
    if (done.failure?.failure.code !== 'apply.superseded') await this.#workshop.waiting.remove();
    await this.#workshop.journal.remove();
    await this.#workshop.reserve.release();
    await this.#options.applied?.();
    this.#journal = undefined;
    this.#applications++;
    if (done.kind === 'applying') await this.#rounds.served.resetCounts().catch(() => {});
    if (this.#options.checkIntervalMs !== null) this.#rounds.soon();
    // Said last, so that whoever is woken by it sees the end.
    const end = endOf(done);
    if (end !== undefined) await this.#options.emit(end.kind, 'host', end.message);
    return done;
  }

  /** Called by a step that waits: throws where it waits in vain. */
  #checkWaiting(): void {
    if (this.#stopped) throw new Stopped();
    const journal = this.#journal;
    const { kind = 'removing' } = journal ?? {};
    if (journal?.desired == null || (kind !== 'applying' && kind !== 'switching-off')) return;
    const newer =
      this.#wanted !== undefined &&
      (this.#wanted.epoch !== journal.desired.epoch || this.#wanted.number !== journal.desired.number);
    if (!newer && !this.#removing) return;
    if (WAITING.has(this.#step) && !this.#removing)
      this.#abandoned = journal.transitions.filter(({ request }) => request);
    throw new TrustError(
      'apply.superseded',
      'conflict',
      `cannot finish desired state ${journal.desired.epoch}.${journal.desired.number}: ${this.#removing ? 'the host is being removed' : 'a newer one came'}`,
    );
  }

  async #check(): Promise<void> {
    // What is wanted from now on is applied, not taken for somebody's disturbance.
    const wanted = this.#wanted;
    if (this.#journal !== undefined || !(await this.#holds())) return await this.#proceed();
    if (this.#removing || wanted === undefined) return;
    if (wanted.settings.tls === 'off')
      return await clearLeft(this.#workshop, await this.#options.effects.facts());
    await this.#rounds.rescue();
    await this.#checkHost(wanted);
  }

  async #checkHost(desired: DesiredState): Promise<void> {
    this.#restart.setWait(await checkHost(this.#workshop, desired, await this.#options.effects.facts()));
  }

  /** Looks at everything once. */
  async round(): Promise<void> {
    await this.#rounds.round();
  }

  /** What holds on this host while nothing is under way. */
  async #settled(): Promise<DesiredState | undefined> {
    const busy = this.#stopped || this.#removing || this.#journal !== undefined || !(await this.#holds());
    return busy ? undefined : this.#wanted;
  }

  async #exclusively(work: () => Promise<void>): Promise<void> {
    this.#turns.add(work);
    await this.#turns.idle();
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

function removing(): TrustError {
  return new TrustError('agent.removing', 'conflict', 'cannot change this host: it is being given back');
}
