import type { Clock } from '@virt-trust/base/clock.ts';
import { parseDuration } from '@virt-trust/base/duration.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { HostRepository } from '../hosts/host.ts';
import type { OutsideLook } from '../hosts/outside-look.ts';
import type { Settings } from '../settings/settings.ts';
import type { Condition } from './condition.ts';
import { conditionsOf } from './host-conditions.ts';
import { type ChannelFact, type HostThresholds, type StoredFacts, storedFactsOf } from './host-facts.ts';

export interface FleetConditionsParts {
  readonly clock: Clock;
  readonly repository: Pick<HostRepository, 'get' | 'ids'>;
  readonly settings: Pick<Settings, 'value'>;
  /** When a certificate was made here; null for one that was not. */
  readonly issuedAt: (serialNumber: string) => Promise<Instant | null>;
  readonly outsideOf: (id: HostId) => OutsideLook | null;
}

interface Entry {
  stored: StoredFacts;
  thresholds: HostThresholds;
  channel: ChannelFact;
  /** When time alone may change what is wrong. */
  next: number;
}

/** What became of a host: its conditions, none where it is no more. */
export interface HostConditions {
  readonly source: string;
  readonly conditions: readonly Condition[];
  /** It was removed: its alarms have no subject any more. */
  readonly removed: boolean;
}

/** How many hosts are looked at before others have their turn. */
const BATCH = 200;

/**
 * What is wrong with each host, by what is held of it in memory: a host is read again when it was written, and judged
 * again when something about it changed or a time has come.
 */
export class FleetConditions {
  readonly #parts: FleetConditionsParts;
  readonly #entries = new Map<HostId, Entry>();
  readonly #channels = new Map<HostId, ChannelFact>();
  readonly #written = new Set<HostId>();
  readonly #changed = new Set<HostId>();
  #settingsChanged = false;

  constructor(parts: FleetConditionsParts) {
    this.#parts = parts;
  }

  /** Reads the whole fleet once; all of it is judged at the next `take`. */
  async load(): Promise<void> {
    for (const id of await this.#parts.repository.ids()) this.#written.add(id);
  }

  /** The host's document was written, or is gone. */
  written(id: HostId): void {
    this.#written.add(id);
  }

  /** Like `written`, of the host whose alarms have this source; nothing for another source. */
  writtenBySource(source: string): void {
    if (source.startsWith(SOURCE_PREFIX)) this.#written.add(source.slice(SOURCE_PREFIX.length) as HostId);
  }

  /** Whether a source is a host that there is. */
  has(source: string): boolean {
    return (
      source.startsWith(SOURCE_PREFIX) && this.#entries.has(source.slice(SOURCE_PREFIX.length) as HostId)
    );
  }

  /** The manager saw something else from outside than before. */
  looked(id: HostId): void {
    this.#changed.add(id);
  }

  /** The state of a host's channel changed. */
  channel(id: HostId, state: 'up' | 'down', reason: string): void {
    const known = this.#channels.get(id);
    if (state === 'up') this.#channels.set(id, { kind: 'up' });
    else if (known?.kind !== 'down')
      this.#channels.set(id, { kind: 'down', since: this.#parts.clock.now(), reason });
    else return;
    this.#changed.add(id);
  }

  settingsChanged(): void {
    this.#settingsChanged = true;
  }

  /** The soonest time at which something may change by itself. */
  next(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.values()) next = Math.min(next, entry.next);
    return next;
  }

  /** All that is held, for figures. */
  stored(): Iterable<{ readonly stored: StoredFacts; readonly channel: ChannelFact }> {
    return this.#entries.values();
  }

  /** The conditions of every host that may have others than when it was taken last. */
  async take(): Promise<HostConditions[]> {
    const taken: HostConditions[] = [];
    const now = this.#parts.clock.now();
    const written = [...this.#written];
    this.#written.clear();
    for (const [index, id] of written.entries()) {
      if (!(await this.#read(id))) taken.push({ source: sourceOf(id), conditions: [], removed: true });
      await othersTurn(index);
    }
    if (this.#settingsChanged) {
      this.#settingsChanged = false;
      for (const [index, [id, entry]] of [...this.#entries].entries()) {
        entry.thresholds = await this.#thresholds(entry.stored);
        this.#changed.add(id);
        await othersTurn(index);
      }
    }
    const due = new Set([...this.#changed, ...written]);
    this.#changed.clear();
    for (const [id, entry] of [...this.#entries]) {
      if (!due.has(id) && entry.next > now) continue;
      await othersTurn(taken.length);
      entry.channel = this.#channels.get(id) ?? { kind: 'unknown' };
      const outside = this.#parts.outsideOf(id);
      const { stored, thresholds, channel } = entry;
      const { conditions, next } = conditionsOf({ ...stored, thresholds, channel, outside }, now);
      entry.next = next;
      taken.push({ source: sourceOf(id), conditions, removed: false });
    }
    return taken;
  }

  /** False where there is no such host any more. */
  async #read(id: HostId): Promise<boolean> {
    const host = await this.#parts.repository.get(id);
    if (host === null) {
      this.#entries.delete(id);
      this.#channels.delete(id);
      return false;
    }
    const stored = await storedFactsOf(host, this.#parts.issuedAt);
    const thresholds = await this.#thresholds(stored);
    this.#entries.set(id, { stored, thresholds, channel: { kind: 'unknown' }, next: 0 });
    return true;
  }

  async #thresholds({ name, cluster }: StoredFacts): Promise<HostThresholds> {
    const { settings } = this.#parts;
    const subject = { host: name, cluster };
    const duration = async (setting: Parameters<typeof milliseconds>[1]) =>
      milliseconds(settings, setting, subject);
    return {
      expiry: {
        warning: {
          before: await duration('alarm.expiry_warning'),
          percent: await settings.value('alarm.expiry_warning_percent', subject),
        },
        critical: {
          before: await duration('alarm.expiry_critical'),
          percent: await settings.value('alarm.expiry_critical_percent', subject),
        },
      },
      unreachableAfter: await duration('alarm.unreachable_after'),
      driftAfter: await duration('alarm.drift_after'),
    };
  }
}

/** Long work is done in pieces. */
async function othersTurn(index: number): Promise<void> {
  if (index % BATCH === BATCH - 1) await new Promise(setImmediate);
}

const SOURCE_PREFIX = 'host ';

/** Whose alarms a host's are. */
function sourceOf(id: HostId): string {
  return `${SOURCE_PREFIX}${id}`;
}

type DurationSetting =
  | 'alarm.expiry_warning'
  | 'alarm.expiry_critical'
  | 'alarm.authority_expiry_warning'
  | 'alarm.authority_expiry_critical'
  | 'alarm.unreachable_after'
  | 'alarm.drift_after'
  | 'alarm.clear_after';

/** A setting that is a duration, in milliseconds. */
export async function milliseconds(
  settings: Pick<Settings, 'value'>,
  name: DurationSetting,
  subject: { readonly host?: string; readonly cluster?: string } = {},
): Promise<number> {
  const value = await settings.value(name, subject);
  const parsed = parseDuration(value);
  if (parsed === undefined) throw new RangeError(`cannot use setting ${name}: ${value}`);
  return parsed;
}
