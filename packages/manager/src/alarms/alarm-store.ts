import type { Instant } from '@virt-trust/base/instant.ts';
import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { AlarmChange, OpenAlarm } from './reconcile.ts';

/** An alarm with its place in the order of raising. */
export interface AlarmRecord {
  readonly sequence: number;
  readonly alarm: Alarm;
}

/** Where alarms are kept. Each method is one durable unit of work. */
export interface AlarmStore {
  open(): Promise<readonly OpenAlarm[]>;
  /** Keeps the changes with their events and what the webhook is to be told, all or none. */
  apply(changes: readonly AlarmChange[]): Promise<void>;
  /** Marks a raised alarm, with its audit entry, its event and what the webhook is to be told. */
  acknowledge(alarm: OpenAlarm, by: string, audit: AuditDraft): Promise<void>;
  find(id: string): Promise<Alarm | null>;
  /** Newest first, with a sequence below `before`, of one host where one is given. */
  list(filter: {
    readonly before: number | null;
    readonly host: string | null;
    /** Whether those that were cleared are among them. */
    readonly cleared: boolean;
    readonly limit: number;
  }): Promise<readonly AlarmRecord[]>;
  /** Forgets alarms that were cleared before. */
  prune(before: Instant): Promise<void>;
}
