import { TrustError } from '@virt-trust/base/error.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type {
  CertificateRequest,
  Failure,
  IssuedCertificate,
  ObservedState,
  ProofVerdict,
} from '@virt-trust/contract/model/observed-state.ts';
import type { ApplyEngine } from '../ports/apply-engine.ts';
import { HostRounds } from '../served/host-rounds.ts';
import { type ApplyOptions, Workshop } from '../served/workshop.ts';
import type { Journal } from '../sets/apply-state.ts';
import { failureOf } from '../sets/failure.ts';
import { desiredFromOlder } from '../sets/older-state.ts';
import { Document } from '../state/document.ts';
import { Application } from './application.ts';
import { endOf } from './application-end.ts';
import { certificateRequestsOf, takeCertificates, takeVerdicts } from './certificate-exchange.ts';
import { DaemonRestart } from './daemon-restart.ts';
import { givingBackJournal, type RemovalOutcome } from './giving-back.ts';
import { checkHost } from './guard.ts';
import { judgeDesired } from './judge-desired.ts';
import { observe } from './observe.ts';
import { planJournal } from './plan-journal.ts';
import { clearLeft } from './removal.ts';
import { Turns } from './turns.ts';

/** What the engine is given. */
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
  readonly #application: Application;
  #wanted: DesiredState | undefined;
  /** Why nothing goes on, where that could not be written down: a full disk, say. Tried again at the next occasion. */
  #stuck: Failure | undefined;
  #removing = false;
  #stopped = false;
  readonly #rounds: HostRounds;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#workshop = new Workshop(options);
    this.#turns = new Turns({
      log: options.log,
      emit: options.emit,
      isStopped: () => this.#stopped,
      failed: (error) => {
        this.#stuck = failureOf(error, this.#application.step ?? 'begin', options.clock.now());
      },
    });
    this.#restart = new DaemonRestart({
      step: () => this.#application.step,
      isStopped: () => this.#stopped,
      onWait: () => options.onWait?.(),
    });
    this.#application = new Application({
      workshop: this.#workshop,
      restart: this.#restart,
      isStopped: () => this.#stopped,
      supersededBy: (desired) => this.#supersededBy(desired),
      changed: () => this.#changed.promise,
      waitSeconds: () => this.#wanted?.settings.migrationWaitSeconds ?? DEFAULT_WAIT_SECONDS,
      applied: async () => await options.applied?.(),
    });
    this.#rounds = new HostRounds({
      workshop: this.#workshop,
      intervalMs: () =>
        (this.#wanted?.settings.probeSeconds ?? 0) * SECOND || (options.checkIntervalMs ?? MINUTE),
      waits: () => this.#application.waits,
      settled: () => this.#settled(),
      applications: () => this.#application.count,
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
    await this.#application.read();
    this.#removing = this.#application.journal?.kind === 'removing';
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
    const busy = this.#application.isUnderWay || !(await this.#holds());
    if (!busy) await this.#application.look();
    const stuck = busy ? this.#stuck : undefined;
    const observed = await observe({
      workshop: this.#workshop,
      mode: this.#options.mode,
      wanted: this.#wanted,
      journal: this.#application.journal,
      facts: this.#application.facts,
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
    return this.#application.isUnderWay && !this.#application.waits;
  }

  /** The requests that wait for the manager. */
  async certificateRequests(): Promise<CertificateRequest[]> {
    return await certificateRequestsOf(this.#workshop, this.#application.journal);
  }

  async putCertificates(certificates: readonly IssuedCertificate[]): Promise<ObservedState> {
    await takeCertificates(this.#workshop, this.#application.journal, certificates);
    this.#wake();
    return await this.observedState();
  }

  async postProofs(verdicts: readonly ProofVerdict[]): Promise<ObservedState> {
    await takeVerdicts(this.#workshop, this.#application.journal, verdicts);
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
    // An interrupted application ends, by going back where it would have to wait; an interrupted removal ends, too.
    const before = this.#application.isUnderWay ? await this.#run() : undefined;
    if (before?.kind === 'removing') return { restored: before.restored, left: before.left };
    if ((await this.#workshop.found.read()) === undefined) {
      await this.#desired.remove();
      this.#wanted = undefined;
      const off = before?.kind === 'switching-off' ? before : undefined;
      return { restored: off?.restored ?? [], left: off?.left ?? (await this.#workshop.state()).left ?? [] };
    }
    const done = await this.#do(await givingBackJournal(this.#workshop, { kind: 'removing' }));
    this.#wanted = undefined;
    await this.#rounds.served.forget();
    await this.#options.emit('removal.done', 'host', `gave back ${done.restored.length} paths`);
    return { restored: done.restored, left: done.left };
  }

  /** Applies until what is wanted holds, or failed. */
  async #proceed(): Promise<void> {
    this.#stuck = undefined;
    if (this.#application.isUnderWay) await this.#run();
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
      await this.#do(journal);
    }
  }

  /** TLS off: the host has its own back, and the agent goes on. */
  async #switchOff(desired: DesiredState): Promise<void> {
    await this.#do(await givingBackJournal(this.#workshop, { kind: 'switching-off', desired }));
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
      return await planJournal(this.#workshop, desired, this.#application.takeAbandoned());
    } catch (error) {
      const failure = failureOf(error, 'plan', this.#options.clock.now());
      const { epoch, number } = desired;
      await this.#workshop.saveState({ ...(await this.#workshop.state()), epoch, number, failure });
      await this.#options.emit('apply.failed', 'settings', `${failure.message} (step plan)`);
      return undefined;
    }
  }

  async #do(journal: Journal): Promise<Journal> {
    await this.#application.begin(journal);
    return await this.#run();
  }

  async #run(): Promise<Journal> {
    const { journal, isOver } = await this.#application.run();
    if (!isOver) return journal;
    if (journal.kind === 'applying') await this.#rounds.served.resetCounts().catch(() => {});
    if (this.#options.checkIntervalMs !== null) this.#rounds.soon();
    // Said last, so that whoever is woken by it sees the end.
    const end = endOf(journal);
    if (end !== undefined) await this.#options.emit(end.kind, 'host', end.message);
    return journal;
  }

  #supersededBy({ epoch, number }: DesiredState): string | undefined {
    if (this.#removing) return 'the host is being removed';
    const wanted = this.#wanted;
    const isNewer = wanted !== undefined && (wanted.epoch !== epoch || wanted.number !== number);
    return isNewer ? 'a newer one came' : undefined;
  }

  async #check(): Promise<void> {
    // What is wanted from now on is applied, not taken for somebody's disturbance.
    const wanted = this.#wanted;
    if (this.#application.isUnderWay || !(await this.#holds())) return await this.#proceed();
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
    const busy = this.#stopped || this.#removing || this.#application.isUnderWay || !(await this.#holds());
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
