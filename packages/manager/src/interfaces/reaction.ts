import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { instant, MINUTE } from '@virt-trust/base/instant.ts';
import { wakeAt } from '@virt-trust/base/timer.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { SettingPlace } from '../settings/setting-store.ts';
import { Bringing, type BringingParts } from './bringing.ts';
import type { Declaring } from './declaring.ts';
import { Pace } from './pace.ts';
import { factsOf, type SeenHost, seenOf } from './seen-host.ts';
import { WantedNames } from './wanted-names.ts';

export interface ReactionParts extends Omit<BringingParts, 'actor' | 'again'> {
  readonly declaring: Declaring;
  readonly repository: Pick<HostRepository, 'get' | 'find' | 'ids' | 'list'>;
}

/** In whose name hosts are declared anew, and provisioned for that. */
const INTERFACES_ACTOR = 'system:interfaces';
/** SECURITY: a host that changes its report on and on is declared anew at this pace, and no faster. */
const PACE = { burst: 20, everyMs: MINUTE };

interface Entry {
  seen: SeenHost | null;
  readonly pace: Pace;
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
  readonly #bringing: Bringing;
  readonly #tasks = new Map<HostId, Task>();
  #working: Promise<void> | undefined;

  constructor(parts: ReactionParts) {
    this.#parts = parts;
    this.#bringing = new Bringing({
      ...parts,
      actor: INTERFACES_ACTOR,
      again: (id) => this.#do(id, { bring: true }),
    });
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
    // What failed while it was away says nothing of how it is now.
    this.#bringing.forgive(id);
    this.#do(id, { bring: true });
  }

  /** What was held back may be done. */
  async resume(): Promise<void> {
    for (const id of await this.#parts.repository.ids()) this.#do(id, { bring: true });
  }

  /** How many names are refused by which rule, of the hosts that were looked at since the start. */
  refusedByRule(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { seen } of this.#entries.values())
      for (const rule of seen?.refusedBy ?? []) counts.set(rule, (counts.get(rule) ?? 0) + 1);
    return counts;
  }

  /** Resolves when nothing is being declared; jobs may be under way. */
  async quiet(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  /** Resolves when no job that is followed is under way either. */
  async idle(): Promise<void> {
    for (;;) {
      await this.quiet();
      const { following } = this.#bringing;
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
    this.#bringing.forget(id);
    this.#wanted.replace(id, entry?.seen?.conflicts ?? [], []);
    this.#tellReleased(id, entry?.seen?.names ?? []);
  }

  /** Who was refused what is free now, gets it. */
  #tellReleased(by: HostId, names: Iterable<string>): void {
    for (const id of this.#wanted.wantedBy(names)) if (id !== by) this.#do(id, { redeclare: true });
  }

  async #bring(host: Host, entry: Entry): Promise<void> {
    const wait = await this.#bringing.bring(host);
    if (wait !== null) this.#later(host.id, entry, wait, { redeclare: false, bring: true });
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
        pending: null,
        cancelTimer: () => {},
      };
      this.#entries.set(id, entry);
    }
    return entry;
  }
}
