import type { AlarmKind, AlarmSeverity } from '@virt-trust/contract/model/alarm.ts';

/** Something that is wrong now; while it lasts, there is an alarm for its kind and subject. */
export interface Condition {
  readonly kind: AlarmKind;
  /** What it is about, the same words each time: `vnc of host kvm1`. */
  readonly subject: string;
  /** The host that it concerns; null where it concerns none, or many. */
  readonly host: string | null;
  readonly severity: AlarmSeverity;
  /** What happened. Words that change at every look (seconds that are left) would count as something new. */
  readonly message: string;
  /** What to do: a command, or an edit. */
  readonly action: string;
  /** It cannot be told now: an alarm that is open stays as it is, and none is raised. */
  readonly undecided?: boolean;
}

/** Whoever knows of things that are wrong. What it no longer answers is over; where it throws, its alarms stay as they are. */
export interface AlarmSource {
  /** Stable over restarts: alarms belong to the source that raised them. */
  readonly name: string;
  conditions(): Promise<readonly Condition[]>;
}
