import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { instant, MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { wakeAt } from '@virt-trust/base/timer.ts';
import { backOffDelay } from '@virt-trust/channel/backoff.ts';
import type { Job, JobState } from '@virt-trust/contract/model/job.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { SettingPlace } from '../settings/setting-store.ts';
import type { Declaring } from './declaring.ts';
import { Pace } from './pace.ts';
import { declaredOf, factsOf, type SeenHost, seenOf } from './seen-host.ts';
import { WantedNames } from './wanted-names.ts';

export interface ReactionParts {
  readonly declaring: Declaring;
  readonly repository: Pick<HostRepository, 'get' | 'find' | 'ids' | 'list'>;
  readonly jobs: Pick<JobRunner, 'unfinished' | 'follow'>;
  readonly isUp: (id: HostId) => boolean;
  /** Whether nothing is to be changed by itself now: the fleet is frozen, or not known after a restore. */
  readonly isHeld: () => Promise<boolean>;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** In whose name hosts are declared anew, and provisioned for that. */
const INTERFACES_ACTOR = 'system:interfaces';
/** How many hosts are provisioned at once for their names. */
const CONCURRENCY = 8;
const BACK_OFF = { firstMs: 30 * SECOND, maxMs: 30 * MINUTE };
/** SECURITY: a host that changes its report on and on is declared anew at this pace, and no faster. */
const PACE = { burst: 20, everyMs: 15 * SECOND };
/**
 * SECURITY: and this often provisioned for that, however often its channel comes back: each time costs a certificate for
 * each service, and a line for it in the CRLs of all hosts once it has an address less.
 */
const JOB_PACE = { burst: 30, everyMs: 10 * MINUTE };
/** Jobs that bring a host to what is declared by then. */
const WORKING: readonly Job['kind'][] = ['host-add', 'host-provision', 'host-gate', 'host-renew'];

interface Entry {
  seen: SeenHost | null;
  pace: Pace;
  jobPace: Pace;
  failures: number;
  notBefore: number;
  /** The job under way that is followed to its end. */
  following: Promise<void> | null;
  /** The job that was to bring it right, and ended: how, and what was declared when it was first followed. */
  ended: { readonly state: JobState; readonly declared: string } | null;
  /** What is looked at later, and when. */
  pending: { readonly task: Task; readonly at: number } | null;
  cancelTimer: () => void;
}

interface Task {
  redeclare: boolean;
  bring: boolean;
}

/**
 * Has declarations and certificates follow what hosts report, settings say and other hosts let go: in the background, one
 * host after the other. What is still to be done is always read from what hosts serve, so nothing is lost with the
 * process: at a start every host is looked at.
 */
export class Reaction {
  readonly #parts: ReactionParts;
  readonly #entries = new Map<HostId, Entry>();
  readonly #wanted = new WantedNames();
  readonly #tasks = new Map<HostId, Task>();
  /** Hosts that wait until fewer are being worked on. */
  readonly #waiting = new Set<HostId>();
  #under = 0;
  #working: Promise<void> | undefined;

  constructor(parts: ReactionParts) {
    this.#parts = parts;
    parts.signal.addEventListener('abort', () => {
      for (const { cancelTimer } of this.#entries.values()) cancelTimer();
    });
  }

  /** Looks at every host: something may have changed while nobody looked. */
  async start(): Promise<void> {
    for (const id of await this.#parts.repository.ids()) this.#do(id, { redeclare: true, bring: true });
  }

  /** The host's document was written, or is gone. */
  written(id: HostId): void {
    this.#do(id, {});
  }

  /** A setting changed, of these hosts. */
  async settingsChanged(place: SettingPlace): Promise<void> {
    for (const id of await this.#hostsAt(place)) this.#do(id, { redeclare: true });
  }

  /** The host can be worked on again. */
  channelUp(id: HostId): void {
    const entry = this.#entries.get(id);
    // What failed while it was away says nothing of how it is now.
    if (entry !== undefined) this.#forgive(entry);
    this.#do(id, { bring: true });
  }

  /** What was held back may be done. */
  async resume(): Promise<void> {
    for (const id of await this.#parts.repository.ids()) this.#do(id, { bring: true });
  }

  /** Resolves when nothing is being declared; jobs may be under way. */
  async quiet(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  /** Resolves when no job that is followed is under way either. */
  async idle(): Promise<void> {
    for (;;) {
      await this.quiet();
      const following = [...this.#entries.values()].flatMap((entry) => entry.following ?? []);
      if (following.length === 0) return;
      await Promise.all(following);
    }
  }

  async #hostsAt({ scope, target }: SettingPlace): Promise<readonly HostId[]> {
    const { repository } = this.#parts;
    if (scope === 'global') return repository.ids();
    if (scope === 'cluster')
      return (await repository.list()).filter(({ cluster }) => cluster === target).map(({ id }) => id);
    const host = await repository.find(target);
    return host === null ? [] : [host.id];
  }

  #do(id: HostId, more: Partial<Task>): void {
    if (this.#parts.signal.aborted) return;
    const task = this.#tasks.get(id) ?? { redeclare: false, bring: false };
    task.redeclare ||= more.redeclare === true;
    task.bring ||= more.bring === true;
    this.#tasks.set(id, task);
    this.#run();
  }

  #run(): void {
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#tasks.size > 0) this.#run();
    });
  }

  async #work(): Promise<void> {
    // Others are served between two hosts, and who wrote the host has done so by then.
    await new Promise(setImmediate);
    for (const [id, task] of this.#tasks) {
      this.#tasks.delete(id);
      if (this.#parts.signal.aborted) return this.#tasks.clear();
      try {
        await this.#look(id, task);
      } catch (error) {
        if (!this.#parts.signal.aborted && !isTrustError(error, 'host.unknown')) {
          this.#parts.log.error({ host: id }, `cannot declare a host anew: ${describeError(error)}`);
          this.#later(id, this.#entry(id), MINUTE, task);
        }
      }
      await new Promise(setImmediate);
    }
  }

  async #look(id: HostId, task: Task): Promise<void> {
    const host = await this.#parts.repository.get(id);
    if (host === null) return this.#forget(id);
    const entry = this.#entry(id);
    const before = entry.seen;
    let now = host;
    if (task.redeclare || before?.facts !== factsOf(host)) {
      const wait = task.redeclare ? 0 : entry.pace.take(this.#parts.clock.now());
      if (wait > 0) return this.#later(id, entry, wait, { ...task, redeclare: true });
      now = await this.#parts.declaring.redeclare(id, INTERFACES_ACTOR);
    }
    const after = seenOf(now);
    entry.seen = after;
    this.#wanted.replace(id, before?.conflicts ?? [], after.conflicts);
    this.#tellReleased(id, before?.names.difference(after.names) ?? []);
    const changed =
      before === null ||
      before.facts !== after.facts ||
      before.standing !== after.standing ||
      before.names.symmetricDifference(after.names).size > 0;
    if (task.bring || task.redeclare || changed) await this.#bring(now, entry);
  }

  #forget(id: HostId): void {
    const entry = this.#entries.get(id);
    entry?.cancelTimer();
    this.#entries.delete(id);
    this.#waiting.delete(id);
    this.#wanted.replace(id, entry?.seen?.conflicts ?? [], []);
    this.#tellReleased(id, entry?.seen?.names ?? []);
  }

  /** Who was refused what is free now, gets it. */
  #tellReleased(by: HostId, names: Iterable<string>): void {
    for (const id of this.#wanted.wantedBy(names)) if (id !== by) this.#do(id, { redeclare: true });
  }

  async #bring(host: Host, entry: Entry): Promise<void> {
    const { declaring, jobs, isUp, isHeld, clock } = this.#parts;
    if (entry.following !== null) return;
    if (!(await declaring.isOutdated(host))) return this.#forgive(entry);
    // It plans with what is declared by the time that it runs; where it has planned already, this is looked at again.
    const underWay = WORKING.flatMap((kind) => jobs.unfinished(kind)).find(({ locks }) =>
      locks.includes(`host:${host.name}`),
    );
    if (underWay !== undefined) return this.#follow(host, entry, underWay.job.id, false);
    // The next turn of events looks again: the channel, or the end of the freeze.
    if (!isUp(host.id) || (await isHeld())) return;
    const { ended } = entry;
    entry.ended = null;
    // What ended well and planned with something else says nothing of this.
    if (ended !== null && ended.state !== 'done' && ended.declared === declaredOf(host)) {
      entry.failures += 1;
      entry.notBefore = clock.now() + backOffDelay(BACK_OFF, entry.failures, this.#parts.randomness);
    }
    const wait = entry.notBefore - clock.now();
    if (wait > 0) return this.#later(host.id, entry, wait, { redeclare: false, bring: true });
    if (this.#under >= CONCURRENCY) {
      this.#waiting.add(host.id);
      return;
    }
    const turn = entry.jobPace.take(clock.now());
    if (turn > 0) {
      if (entry.pending === null)
        this.#parts.log.warn(
          { host: host.name, seconds: Math.ceil(turn / SECOND) },
          'names change too often',
        );
      return this.#later(host.id, entry, turn, { redeclare: false, bring: true });
    }
    const job = await declaring.bringRight(host, INTERFACES_ACTOR);
    if (job !== null) this.#follow(host, entry, job.id, true);
  }

  #follow(host: Host, entry: Entry, job: string, own: boolean): void {
    const { id } = host;
    if (own) this.#under += 1;
    entry.following = this.#untilOver(job)
      .then((state) => {
        // Ours planned with nothing older, so it does not help.
        const ineffective = own && state === 'done' ? 'failed' : state;
        entry.ended = { state: ineffective, declared: declaredOf(host) };
      })
      .catch((error: unknown) => {
        if (!this.#parts.signal.aborted && !isTrustError(error, 'job.unknown'))
          this.#parts.log.error({ host: id, job }, `cannot follow a job: ${describeError(error)}`);
      })
      .finally(() => {
        entry.following = null;
        if (own) this.#under -= 1;
        if (this.#entries.get(id) === entry) this.#do(id, { bring: true });
        const [next] = this.#waiting;
        if (next === undefined) return;
        this.#waiting.delete(next);
        this.#do(next, { bring: true });
      });
  }

  async #untilOver(id: string): Promise<JobState> {
    const { jobs, signal } = this.#parts;
    let state: JobState = 'queued';
    for await (const { job } of jobs.follow(id, signal)) state = job.state;
    return state;
  }

  #forgive(entry: Entry): void {
    entry.failures = 0;
    entry.notBefore = 0;
    entry.ended = null;
  }

  #later(id: HostId, entry: Entry, milliseconds: number, task: Task): void {
    const { clock, signal } = this.#parts;
    entry.cancelTimer();
    if (signal.aborted) return;
    const { pending } = entry;
    const at = Math.min(clock.now() + milliseconds, pending?.at ?? Number.POSITIVE_INFINITY);
    const both = {
      redeclare: task.redeclare || pending?.task.redeclare === true,
      bring: task.bring || pending?.task.bring === true,
    };
    entry.pending = { task: both, at };
    entry.cancelTimer = wakeAt(clock, instant(at), () => {
      entry.pending = null;
      this.#do(id, both);
    });
  }

  #entry(id: HostId): Entry {
    let entry = this.#entries.get(id);
    if (entry === undefined) {
      entry = {
        seen: null,
        pace: new Pace({ ...PACE, now: this.#parts.clock.now() }),
        jobPace: new Pace({ ...JOB_PACE, now: this.#parts.clock.now() }),
        failures: 0,
        notBefore: 0,
        following: null,
        ended: null,
        pending: null,
        cancelTimer: () => {},
      };
      this.#entries.set(id, entry);
    }
    return entry;
  }
}
