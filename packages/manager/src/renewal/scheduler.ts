import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { type Instant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { wakeAt } from '@virt-trust/base/timer.ts';
import type { JobDefinition } from '../jobs/job.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { Settings } from '../settings/settings.ts';
import type { Freeze } from './freeze.ts';
import type { RenewalPlanner } from './planner.ts';
import type { RenewOrder } from './renew-job.ts';
import type { RenewalStore } from './renewal-store.ts';

export interface RenewalSchedulerParts {
  readonly store: RenewalStore;
  readonly planner: RenewalPlanner;
  readonly freeze: Freeze;
  readonly settings: Settings;
  readonly jobs: JobRunner;
  readonly job: JobDefinition<RenewOrder>;
  /** Whether the host can be worked on now. */
  readonly isUp: (host: string) => Promise<boolean>;
  /** Whether it is not known yet which hosts were revoked: after a restore. */
  readonly isHeld: () => boolean;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Whose jobs these are in the audit log: nobody asked for them. */
const RENEWAL_ACTOR = 'manager';
const BATCH = 64;
/** Looked again after at the latest, for what became due in ways that nobody tells of. */
const LONGEST_SLEEP = 10 * MINUTE;

/**
 * Starts renewals when they are due, in waves: one host first, one more with each success, up to a bound. It sleeps until
 * the next one is due; what a look costs grows with what is due, not with the fleet. All its state is in the store.
 */
export class RenewalScheduler {
  readonly #parts: RenewalSchedulerParts;
  /** Hosts with a job under way that this process follows. */
  readonly #following = new Map<string, Promise<void>>();
  #cancelTimer: () => void = () => {};
  #looking: Promise<void> | undefined;
  #again = false;

  constructor(parts: RenewalSchedulerParts) {
    this.#parts = parts;
  }

  /** Takes up what is under way, and looks. */
  start(): void {
    for (const { job, actor } of this.#parts.jobs.unfinished('host-renew'))
      if (actor === RENEWAL_ACTOR) this.#follow(job.subject, job.id);
    this.#parts.signal.addEventListener('abort', () => this.#cancelTimer());
    this.wake();
  }

  /** To be called when something may have become due; looks soon, once for many calls. */
  wake(): void {
    if (this.#looking !== undefined) {
      this.#again = true;
      return;
    }
    this.#looking = this.#lookUntilQuiet().finally(() => {
      this.#looking = undefined;
      if (this.#again) this.wake();
    });
  }

  /** Resolves when nothing is being looked at. */
  async quiet(): Promise<void> {
    while (this.#looking !== undefined) await this.#looking;
  }

  /** Resolves when no renewal is under way, or the manager stops. */
  async idle(): Promise<void> {
    while (this.#following.size > 0) await Promise.all(this.#following.values());
    await this.quiet();
  }

  /** What is queued is taken back at once; what runs ends by itself, its host whole. */
  async stopQueued(): Promise<void> {
    const { jobs, log } = this.#parts;
    for (const { job, actor } of jobs.unfinished('host-renew')) {
      if (actor !== RENEWAL_ACTOR || job.state !== 'queued') continue;
      await jobs.cancel(job.id, RENEWAL_ACTOR).catch((error: unknown) => {
        // It began in between: it finds the freeze itself.
        log.debug({ job: job.id }, `not cancelled: ${describeError(error)}`);
      });
    }
  }

  async #lookUntilQuiet(): Promise<void> {
    await Promise.resolve();
    this.#again = false;
    const { signal, log } = this.#parts;
    if (signal.aborted) return;
    try {
      await this.#look();
      await this.#sleep();
    } catch (error) {
      if (signal.aborted) return;
      log.error({}, `cannot look for renewals: ${describeError(error)}`);
      this.#arm(instant(this.#parts.clock.now() + MINUTE));
    }
  }

  async #look(): Promise<void> {
    const { store, clock, freeze, isHeld } = this.#parts;
    // SECURITY: a host that was revoked after the backup would else be given new certificates.
    if (isHeld() || (await freeze.isFrozen())) return;
    const looked = new Set<string>();
    let room = await this.#room();
    while (room > 0) {
      const due = await store.dueHosts(clock.now(), BATCH + this.#following.size + looked.size);
      const next = due.filter((host) => !this.#following.has(host) && !looked.has(host));
      if (next.length === 0) {
        if (this.#following.size === 0) await store.endWave();
        return;
      }
      for (const host of next) {
        looked.add(host);
        if (await this.#beginOrSay(host)) room -= 1;
        if (room <= 0) return;
      }
    }
  }

  /** How many hosts more may begin now. */
  async #room(): Promise<number> {
    const { store, settings } = this.#parts;
    const { waveSuccesses } = await store.control();
    const most = Math.min(await settings.value('renewal.concurrency'), 1 + waveSuccesses);
    return most - this.#following.size;
  }

  /** SECURITY: a host of which nothing can be made holds up no other. */
  async #beginOrSay(host: string): Promise<boolean> {
    try {
      return await this.#begin(host);
    } catch (error) {
      this.#parts.signal.throwIfAborted();
      this.#parts.log.error({ host }, `cannot begin renewals: ${describeError(error)}`);
      return false;
    }
  }

  async #begin(host: string): Promise<boolean> {
    const { store, planner, jobs, job, clock, isUp } = this.#parts;
    if (!(await isUp(host))) {
      await store.markAway(host);
      return false;
    }
    // It gets what it is to have now as well: what is left after that is planned anew.
    if (jobs.unfinished('host-provision').some(({ locks }) => locks.includes(`host:${host}`))) return false;
    // A window may be shut by now, a setting changed.
    const plans = await planner.refresh(host);
    const due = plans.filter((plan) => !plan.revoked && plan.at <= clock.now());
    if (due.length === 0) return false;
    await store.beginWave();
    const serials = Object.fromEntries(due.map(({ service, serialNumber }) => [service, serialNumber]));
    const { id } = await jobs.enqueue(job, {
      subject: host,
      payload: { host, serials, asked: false },
      actor: RENEWAL_ACTOR,
      locks: [`host:${host}`],
    });
    this.#follow(host, id);
    return true;
  }

  #follow(host: string, id: string): void {
    const over = this.#untilOver(host, id).finally(() => {
      this.#following.delete(host);
      this.wake();
    });
    this.#following.set(host, over);
  }

  async #untilOver(host: string, id: string): Promise<void> {
    const { jobs, signal, freeze, store, planner, log } = this.#parts;
    try {
      let state = 'queued';
      for await (const { job } of jobs.follow(id, signal)) state = job.state;
      if (state !== 'cancelled' || (await freeze.isFrozen())) return;
      // Somebody cancelled it: it comes again, but not at once.
      const services = (await store.of(host)).filter(({ dueAt }) => dueAt <= this.#parts.clock.now());
      const message = `job ${id} was cancelled`;
      await store.failed({ host, services: services.map(({ service }) => service), message, counts: false });
      await planner.refresh(host);
    } catch (error) {
      if (!signal.aborted && !isTrustError(error, 'job.unknown'))
        log.error({ host, job: id }, `cannot follow a renewal: ${describeError(error)}`);
    }
  }

  async #sleep(): Promise<void> {
    const { store, clock } = this.#parts;
    const next = await store.nextDue(clock.now());
    const latest = instant(clock.now() + LONGEST_SLEEP);
    this.#arm(next === null || next > latest ? latest : next);
  }

  #arm(at: Instant): void {
    this.#cancelTimer();
    if (this.#parts.signal.aborted) return;
    this.#cancelTimer = wakeAt(this.#parts.clock, at, () => this.wake());
  }
}
