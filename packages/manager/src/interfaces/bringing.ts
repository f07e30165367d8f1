import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { backOffDelay } from '@virt-trust/channel/backoff.ts';
import type { Job, JobState } from '@virt-trust/contract/model/job.ts';
import type { Host } from '../hosts/host.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { Declaring } from './declaring.ts';
import { Pace } from './pace.ts';
import { declaredOf } from './seen-host.ts';

export interface BringingParts {
  readonly declaring: Pick<Declaring, 'isOutdated' | 'bringRight'>;
  readonly jobs: Pick<JobRunner, 'unfinished' | 'follow'>;
  readonly isUp: (id: HostId) => boolean;
  /** Whether nothing is to be changed by itself now: the fleet is frozen, or not known after a restore. */
  readonly isHeld: () => Promise<boolean>;
  /** In whose name. */
  readonly actor: string;
  /** To be called when a host may be brought right now, or has to be looked at again. */
  readonly again: (id: HostId) => void;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** How many hosts are provisioned at once for their names. */
const CONCURRENCY = 8;
const BACK_OFF = { firstMs: 30 * SECOND, maxMs: 30 * MINUTE };
/**
 * SECURITY: how often a host is provisioned for its names, however often its channel comes back: each time costs a
 * certificate for each service, and a line for it in the CRLs of all hosts once it has an address less.
 */
const JOB_PACE = { burst: 30, everyMs: 10 * MINUTE };
/** Jobs that bring a host to what is declared by then. */
const WORKING: readonly Job['kind'][] = ['host-add', 'host-provision', 'host-gate', 'host-renew'];

interface Attempts {
  readonly pace: Pace;
  /** Whether the pace holds it back, which was said. */
  isPaced: boolean;
  failures: number;
  notBefore: number;
  /** The job under way that is followed to its end. */
  following: Promise<void> | null;
  /** The job that was to bring it right, and ended: how, and what was declared when it was first followed. */
  ended: { readonly state: JobState; readonly declared: string } | null;
}

/** Has hosts provisioned that serve certificates of other names than they are to: a few at a time, with back-off. */
export class Bringing {
  readonly #parts: BringingParts;
  readonly #attempts = new Map<HostId, Attempts>();
  /** Hosts that wait until fewer are being worked on. */
  readonly #waiting = new Set<HostId>();
  #under = 0;

  constructor(parts: BringingParts) {
    this.#parts = parts;
  }

  /** What resolves when the jobs that are followed are over. */
  get following(): Promise<void>[] {
    return [...this.#attempts.values()].flatMap(({ following }) => following ?? []);
  }

  /** Has a host provisioned where it is to be and may be now; answers in how many milliseconds to try again, or null. */
  async bring(host: Host): Promise<number | null> {
    try {
      return await this.#bring(host);
    } finally {
      this.#next();
    }
  }

  async #bring(host: Host): Promise<number | null> {
    const { declaring, jobs, isUp, isHeld, clock, randomness, actor } = this.#parts;
    const attempts = this.#of(host.id);
    if (attempts.following !== null) return null;
    if (!(await declaring.isOutdated(host))) {
      this.forgive(host.id);
      return null;
    }
    // It plans with what is declared by the time that it runs; where it has planned already, this is looked at again.
    const underWay = WORKING.flatMap((kind) => jobs.unfinished(kind)).find(({ locks }) =>
      locks.includes(`host:${host.name}`),
    );
    if (underWay !== undefined) {
      this.#follow(host, attempts, underWay.job.id, false);
      return null;
    }
    // The next turn of events looks again: the channel, or the end of the freeze.
    if (!isUp(host.id) || (await isHeld())) return null;
    const { ended } = attempts;
    attempts.ended = null;
    // What ended well and planned with something else says nothing of this.
    if (ended !== null && ended.state !== 'done' && ended.declared === declaredOf(host)) {
      attempts.failures += 1;
      attempts.notBefore = clock.now() + backOffDelay(BACK_OFF, attempts.failures, randomness);
    }
    const wait = attempts.notBefore - clock.now();
    if (wait > 0) return wait;
    if (this.#under >= CONCURRENCY) {
      this.#waiting.add(host.id);
      return null;
    }
    const turn = this.#turnOf(host, attempts);
    if (turn > 0) return turn;
    const job = await declaring.bringRight(host, actor);
    if (job !== null) this.#follow(host, attempts, job.id, true);
    return null;
  }

  /** What failed counts no more. */
  forgive(id: HostId): void {
    const attempts = this.#attempts.get(id);
    if (attempts !== undefined) Object.assign(attempts, { failures: 0, notBefore: 0, ended: null });
  }

  /** The host is gone. */
  forget(id: HostId): void {
    this.#attempts.delete(id);
    this.#waiting.delete(id);
    this.#next();
  }

  /** Each host that waited asks for the next one in turn: it may be away, or as it is to be, by now. */
  #next(): void {
    const [next] = this.#waiting;
    if (next === undefined || this.#under >= CONCURRENCY) return;
    this.#waiting.delete(next);
    this.#parts.again(next);
  }

  #turnOf(host: Host, attempts: Attempts): number {
    const { clock, log } = this.#parts;
    const turn = attempts.pace.take(clock.now());
    if (turn > 0 && !attempts.isPaced)
      log.warn({ host: host.name, seconds: Math.ceil(turn / SECOND) }, 'names change too often');
    attempts.isPaced = turn > 0;
    return turn;
  }

  #follow(host: Host, attempts: Attempts, job: string, own: boolean): void {
    const { log, signal, again } = this.#parts;
    const { id } = host;
    if (own) this.#under += 1;
    attempts.following = this.#untilOver(job)
      .then((state) => {
        // Ours planned with nothing older, so it does not help.
        const ineffective = own && state === 'done' ? 'failed' : state;
        attempts.ended = { state: ineffective, declared: declaredOf(host) };
      })
      .catch((error: unknown) => {
        if (!signal.aborted && !isTrustError(error, 'job.unknown'))
          log.error({ host: id, job }, `cannot follow a job: ${describeError(error)}`);
      })
      .finally(() => {
        attempts.following = null;
        if (own) this.#under -= 1;
        if (this.#attempts.get(id) === attempts) again(id);
        this.#next();
      });
  }

  async #untilOver(id: string): Promise<JobState> {
    const { jobs, signal } = this.#parts;
    let state: JobState = 'queued';
    for await (const { job } of jobs.follow(id, signal)) state = job.state;
    return state;
  }

  #of(id: HostId): Attempts {
    let attempts = this.#attempts.get(id);
    if (attempts === undefined) {
      attempts = {
        pace: new Pace({ ...JOB_PACE, now: this.#parts.clock.now() }),
        isPaced: false,
        failures: 0,
        notBefore: 0,
        following: null,
        ended: null,
      };
      this.#attempts.set(id, attempts);
    }
    return attempts;
  }
}
