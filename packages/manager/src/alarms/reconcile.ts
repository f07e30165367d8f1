import type { Instant } from '@virt-trust/base/instant.ts';
import type { AlarmKind, AlarmSeverity } from '@virt-trust/contract/model/alarm.ts';
import type { Condition } from './condition.ts';

/** An alarm whose cause is there, or was until just now. */
export interface OpenAlarm {
  readonly id: string;
  /** The source whose condition it is. */
  readonly source: string;
  readonly kind: AlarmKind;
  readonly subject: string;
  readonly host: string | null;
  readonly severity: AlarmSeverity;
  readonly message: string;
  readonly action: string;
  readonly state: 'raised' | 'acknowledged';
  readonly raisedAt: Instant;
  readonly acknowledgedBy: string | null;
  /** Since when its cause is away; null while it is there. */
  readonly goneSince: Instant | null;
  readonly seen: number;
}

/** What becomes of an alarm. */
export type AlarmChange =
  | { readonly kind: 'raise'; readonly alarm: OpenAlarm }
  /** It grew from a warning to critical: whoever had seen to the warning is asked again. */
  | { readonly kind: 'escalate'; readonly alarm: OpenAlarm }
  /** Other words, or its cause went or came back: nobody needs to be told. */
  | { readonly kind: 'note'; readonly alarm: OpenAlarm }
  | { readonly kind: 'clear'; readonly alarm: OpenAlarm };

export interface Reconciliation {
  readonly source: string;
  /** The open alarms of this source. */
  readonly open: readonly OpenAlarm[];
  readonly conditions: readonly Condition[];
  /** Whether another source has an open alarm of that key: then there is one already. */
  readonly isTaken: (key: string) => boolean;
  readonly now: Instant;
  /** How long a cause must be away, in milliseconds; 0 where it cannot come back. */
  readonly clearAfter: number;
  readonly newId: () => string;
}

/** There is at most one open alarm for a key. */
export function alarmKey({ kind, subject }: Pick<Condition, 'kind' | 'subject'>): string {
  return `${kind}\n${subject}`;
}

/** What must become of a source's open alarms by what is wrong now; pure. */
export function reconcile(input: Reconciliation): AlarmChange[] {
  const conditions = new Map<string, Condition>();
  for (const condition of input.conditions) {
    const key = alarmKey(condition);
    const known = conditions.get(key);
    if (known === undefined || rank(condition) > rank(known)) conditions.set(key, condition);
  }
  const open = new Map(input.open.map((alarm) => [alarmKey(alarm), alarm]));
  const changes: AlarmChange[] = [];
  for (const [key, alarm] of open) {
    const change = changeOf(alarm, conditions.get(key), input);
    if (change !== null) changes.push(change);
  }
  for (const [key, condition] of conditions) {
    if (open.has(key) || condition.undecided === true || input.isTaken(key)) continue;
    changes.push({ kind: 'raise', alarm: raised(condition, input) });
  }
  return changes;
}

/** Of two conditions with one key the decided and worse one counts. */
function rank(condition: Condition): number {
  return (condition.undecided === true ? 0 : 2) + (condition.severity === 'critical' ? 1 : 0);
}

function changeOf(
  alarm: OpenAlarm,
  condition: Condition | undefined,
  { now, clearAfter }: Reconciliation,
): AlarmChange | null {
  if (condition === undefined) {
    if (now >= (alarm.goneSince ?? now) + clearAfter) return { kind: 'clear', alarm };
    return alarm.goneSince === null ? { kind: 'note', alarm: { ...alarm, goneSince: now } } : null;
  }
  if (condition.undecided === true) return null;
  const { severity, message, action, host } = condition;
  const back = alarm.goneSince !== null;
  const same =
    !back &&
    alarm.severity === severity &&
    alarm.message === message &&
    alarm.action === action &&
    alarm.host === host;
  if (same) return null;
  const next: OpenAlarm = {
    ...alarm,
    severity,
    message,
    action,
    host,
    goneSince: null,
    seen: alarm.seen + (back ? 1 : 0),
  };
  if (severity === 'critical' && alarm.severity === 'warning')
    return { kind: 'escalate', alarm: { ...next, state: 'raised', acknowledgedBy: null } };
  return { kind: 'note', alarm: next };
}

function raised(condition: Condition, { source, now, newId }: Reconciliation): OpenAlarm {
  const { kind, subject, host, severity, message, action } = condition;
  return {
    id: newId(),
    source,
    kind,
    subject,
    host,
    severity,
    message,
    action,
    state: 'raised',
    raisedAt: now,
    acknowledgedBy: null,
    goneSince: null,
    seen: 1,
  };
}
