import { randomUUID } from 'node:crypto';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { DAY, instant, MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import type { Settings } from '../settings/settings.ts';
import type { AlarmSources } from './alarm-sources.ts';
import type { AlarmStore } from './alarm-store.ts';
import type { AlarmSource, Condition } from './condition.ts';
import { type FleetConditions, milliseconds } from './fleet-conditions.ts';
import { OpenAlarms } from './open-alarms.ts';
import { type AlarmChange, alarmKey, reconcile } from './reconcile.ts';

export interface AlarmsParts {
  readonly store: AlarmStore;
  readonly sources: AlarmSources;
  readonly fleet: FleetConditions;
  readonly settings: Settings;
  readonly clock: Clock;
  readonly log: Log;
  /** Called when alarms were raised, acknowledged or cleared: events and deliveries wait. */
  readonly onChange: () => void;
}

/** What came together within this time is looked at together. */
const DEBOUNCE = SECOND / 4;
const LONGEST = MINUTE;
/** So many changes are kept in one unit of work. */
const BATCH = 200;

/** Keeps the alarms in line with what is wrong: soon after something changed, and at least each minute. */
export class Alarms {
  readonly #parts: AlarmsParts;
  readonly #open = new OpenAlarms();
  #timer: NodeJS.Timeout | undefined;
  #due = Number.POSITIVE_INFINITY;
  #fullDue = 0;
  #pruneDue = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(parts: AlarmsParts) {
    this.#parts = parts;
  }

  /** Takes up the alarms that were open, and begins. */
  async start(): Promise<void> {
    const { store, sources, settings, fleet } = this.#parts;
    for (const alarm of await store.open()) this.#open.set(alarm);
    await this.#everything();
    sources.onChange(() => this.changed());
    settings.onChange(() => {
      fleet.settingsChanged();
      this.changed();
    });
    this.#schedule(0);
  }

  /** Something changed that alarms may depend on. */
  changed(): void {
    this.#schedule(DEBOUNCE);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#turn;
  }

  get open(): OpenAlarms {
    return this.#open;
  }

  /** Says that somebody has seen to it; throws `alarm.unknown` or `alarm.cleared`. */
  acknowledge(id: string, actor: string): Promise<Alarm> {
    return this.#inTurn(async () => {
      const alarm = await this.find(id);
      const open = this.#open.byId(id);
      if (open === undefined)
        throw new TrustError(
          'alarm.cleared',
          'conflict',
          `cannot acknowledge alarm ${id}: it was cleared, its cause is gone`,
        );
      if (open.state === 'acknowledged') return alarm;
      await this.#parts.store.acknowledge(open, actor, {
        actor,
        action: 'alarm.acknowledge',
        subject: open.subject,
        outcome: 'done',
        detail: `${open.kind}: ${open.message}`,
      });
      this.#open.set({ ...open, state: 'acknowledged', acknowledgedBy: actor });
      this.#parts.onChange();
      return this.find(id);
    });
  }

  async find(id: string): Promise<Alarm> {
    const alarm = await this.#parts.store.find(id);
    if (alarm !== null) return alarm;
    throw new TrustError('alarm.unknown', 'not-found', `cannot find alarm ${id}`, {
      hint: 'see them with: virt-trust alarm list --all',
    });
  }

  /** Looks at what changed, and each minute at everything; public for tests, which do not wait for timers. */
  evaluate(): Promise<void> {
    return this.#inTurn(() => this.#evaluate());
  }

  async #evaluate(): Promise<void> {
    const { clock, settings, fleet, sources } = this.#parts;
    const now = clock.now();
    const clearAfter = await milliseconds(settings, 'alarm.clear_after');
    const full = now >= this.#fullDue || now < this.#fullDue - LONGEST;
    if (full) this.#fullDue = now + LONGEST;
    const looks = new Map<string, readonly Condition[]>();
    const removed = new Set<string>();
    for (const { source, conditions, removed: gone } of await fleet.take()) {
      looks.set(source, conditions);
      if (gone) removed.add(source);
    }
    for (const source of sources.take(full ? 'all' : 'changed')) {
      const conditions = await this.#ask(source);
      if (conditions !== null) looks.set(source.name, conditions);
    }
    // Of a source that there is no more, as after an update.
    if (full)
      for (const source of this.#open.sources())
        if (!sources.has(source) && !fleet.has(source)) looks.set(source, looks.get(source) ?? []);
    // What waits to be cleared is looked at by time alone.
    for (const source of this.#open.clearable(now, clearAfter))
      if (!looks.has(source)) looks.set(source, this.#open.stillThere(source));
    let changes: AlarmChange[] = [];
    const raised = new Set<string>();
    for (const [source, conditions] of looks) {
      const reconciled = reconcile({
        source,
        open: this.#open.ofSource(source),
        conditions,
        isTaken: (key) => this.#open.isTaken(key, source) || raised.has(key),
        now,
        clearAfter: removed.has(source) ? 0 : clearAfter,
        newId: randomUUID,
      });
      changes.push(...reconciled);
      for (const { kind, alarm } of reconciled) if (kind === 'raise') raised.add(alarmKey(alarm));
      if (changes.length < BATCH) continue;
      await this.#keep(changes);
      changes = [];
    }
    await this.#keep(changes);
    await this.#prune(now);
  }

  /** In the store first, then here; others have their turn in between. */
  async #keep(changes: readonly AlarmChange[]): Promise<void> {
    if (changes.length === 0) return;
    await this.#parts.store.apply(changes);
    for (const { kind, alarm } of changes) {
      if (kind === 'clear') this.#open.delete(alarm);
      else this.#open.set(alarm);
    }
    if (changes.some((change) => change.kind !== 'note')) this.#parts.onChange();
    await new Promise(setImmediate);
  }

  async #ask(source: AlarmSource): Promise<readonly Condition[] | null> {
    try {
      return await source.conditions();
    } catch (error) {
      this.#parts.log.error({ source: source.name }, `cannot tell what is wrong: ${describeError(error)}`);
      return null;
    }
  }

  async #prune(now: number): Promise<void> {
    if (now < this.#pruneDue) return;
    this.#pruneDue = now + DAY;
    const days = await this.#parts.settings.value('alarm.retention_days');
    await this.#parts.store.prune(instant(now - days * DAY));
  }

  /** Everything is looked at again: at the start, and after a look that came to nothing. */
  async #everything(): Promise<void> {
    const { fleet } = this.#parts;
    this.#fullDue = 0;
    await fleet.load();
    // Of hosts that were removed meanwhile too.
    for (const source of this.#open.sources()) fleet.writtenBySource(source);
  }

  /** Does what changes alarms in the store by itself, as a new name of their host, and takes them up from there. */
  rereadAfter<T>(work: () => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      const result = await work();
      this.#open.replace(await this.#parts.store.open());
      return result;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  #schedule(delay: number): void {
    if (this.#stopped) return;
    const due = performance.now() + delay;
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#run(), delay);
    this.#timer.unref();
  }

  #run(): void {
    this.#due = Number.POSITIVE_INFINITY;
    this.evaluate()
      .catch(async (error: unknown) => {
        this.#parts.log.error({}, `cannot bring the alarms up to date: ${describeError(error)}`);
        await this.#everything();
        throw error;
      })
      .then(async () => {
        const clearAfter = await milliseconds(this.#parts.settings, 'alarm.clear_after');
        const next = Math.min(this.#parts.fleet.next(), this.#open.nextClear(clearAfter));
        this.#schedule(Math.min(LONGEST, Math.max(DEBOUNCE, next - this.#parts.clock.now())));
      })
      .catch(() => this.#schedule(LONGEST));
  }
}
