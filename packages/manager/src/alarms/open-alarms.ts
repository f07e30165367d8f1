import type { AlarmKind, AlarmSeverity } from '@virt-trust/contract/model/alarm.ts';
import { alarmKey, type OpenAlarm } from './reconcile.ts';

/** The open alarms, as the store has them, found by what they are asked for. */
export class OpenAlarms {
  readonly #byKey = new Map<string, OpenAlarm>();
  readonly #ids = new Map<string, string>();
  readonly #sources = new Map<string, Set<string>>();
  readonly #hosts = new Map<string, Set<string>>();

  set(alarm: OpenAlarm): void {
    const key = alarmKey(alarm);
    const before = this.#byKey.get(key);
    if (before !== undefined && before.host !== alarm.host) this.delete(before);
    this.#byKey.set(key, alarm);
    this.#ids.set(alarm.id, key);
    add(this.#sources, alarm.source, key);
    if (alarm.host !== null) add(this.#hosts, alarm.host, key);
  }

  /** These are all there are. */
  replace(alarms: readonly OpenAlarm[]): void {
    for (const alarm of [...this.#byKey.values()]) this.delete(alarm);
    for (const alarm of alarms) this.set(alarm);
  }

  delete(alarm: OpenAlarm): void {
    const key = alarmKey(alarm);
    this.#byKey.delete(key);
    this.#ids.delete(alarm.id);
    remove(this.#sources, alarm.source, key);
    if (alarm.host !== null) remove(this.#hosts, alarm.host, key);
  }

  byId(id: string): OpenAlarm | undefined {
    const key = this.#ids.get(id);
    return key === undefined ? undefined : this.#byKey.get(key);
  }

  ofSource(source: string): OpenAlarm[] {
    return this.#all(this.#sources.get(source));
  }

  sources(): string[] {
    return [...this.#sources.keys()];
  }

  /** Whether a source other than this one has an open alarm of the key. */
  isTaken(key: string, source: string): boolean {
    const alarm = this.#byKey.get(key);
    return alarm !== undefined && alarm.source !== source;
  }

  /** The sources of alarms whose causes have been away for long enough. */
  clearable(now: number, clearAfter: number): Set<string> {
    const sources = new Set<string>();
    for (const { goneSince, source } of this.#byKey.values())
      if (goneSince !== null && now >= goneSince + clearAfter) sources.add(source);
    return sources;
  }

  /** What a source said last, for alarms that are not about to go: they stay as they are. */
  stillThere(source: string) {
    return this.ofSource(source)
      .filter((alarm) => alarm.goneSince === null)
      .map((alarm) => ({ ...alarm, undecided: true }));
  }

  /** When the next alarm will have been without a cause for long enough; Infinity for none. */
  nextClear(clearAfter: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { goneSince } of this.#byKey.values())
      if (goneSince !== null) next = Math.min(next, goneSince + clearAfter);
    return next;
  }

  /** How many there are of a host, and what the worst and oldest of them says. */
  ofHost(host: string): { warning: number; critical: number; first: string | null } {
    const alarms = this.#all(this.#hosts.get(host));
    const critical = alarms.filter((alarm) => alarm.severity === 'critical');
    const first = (critical.length > 0 ? critical : alarms).toSorted((a, b) => a.raisedAt - b.raisedAt)[0];
    return {
      warning: alarms.length - critical.length,
      critical: critical.length,
      first: first?.message ?? null,
    };
  }

  /** How many there are of each kind, severity and state. */
  counts(): { kind: AlarmKind; severity: AlarmSeverity; state: OpenAlarm['state']; count: number }[] {
    const counts = new Map<string, ReturnType<OpenAlarms['counts']>[number]>();
    for (const { kind, severity, state } of this.#byKey.values()) {
      const key = `${kind} ${severity} ${state}`;
      const entry = counts.get(key) ?? { kind, severity, state, count: 0 };
      entry.count += 1;
      counts.set(key, entry);
    }
    return [...counts.values()];
  }

  #all(keys: ReadonlySet<string> | undefined): OpenAlarm[] {
    return [...(keys ?? [])].flatMap((key) => {
      const alarm = this.#byKey.get(key);
      return alarm === undefined ? [] : [alarm];
    });
  }
}

function add(index: Map<string, Set<string>>, name: string, key: string): void {
  const keys = index.get(name) ?? new Set();
  index.set(name, keys.add(key));
}

function remove(index: Map<string, Set<string>>, name: string, key: string): void {
  const keys = index.get(name);
  keys?.delete(key);
  if (keys?.size === 0) index.delete(name);
}
