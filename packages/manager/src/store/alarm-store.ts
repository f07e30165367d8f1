import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Alarm, AlarmKind, AlarmSeverity } from '@virt-trust/contract/model/alarm.ts';
import { lineOf, textOf } from '@virt-trust/contract/text.ts';
import type { AlarmRecord, AlarmStore } from '../alarms/alarm-store.ts';
import type { AlarmChange, OpenAlarm } from '../alarms/reconcile.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import { appendAudit } from './audit-log.ts';
import type { Database, Row } from './database.ts';
import { appendEvent } from './event-store.ts';
import { integer, text, textOrNull, time, timeOrNull } from './row.ts';
import { enqueueDelivery } from './webhook-outbox.ts';

/** The alarms in SQLite. */
export class SqliteAlarmStore implements AlarmStore {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async open(): Promise<readonly OpenAlarm[]> {
    return this.#database
      .all("select * from alarms where state <> 'cleared' order by sequence")
      .map((row) => ({
        ...commonOf(row),
        source: text(row, 'source'),
        state: text(row, 'state') as OpenAlarm['state'],
        goneSince: timeOrNull(row, 'gone_since'),
      }));
  }

  async apply(changes: readonly AlarmChange[]): Promise<void> {
    this.#database.transaction(() => {
      for (const change of changes) this.#apply(change);
    });
  }

  async acknowledge(alarm: OpenAlarm, by: string, audit: AuditDraft): Promise<void> {
    this.#database.transaction(() => {
      this.#update({ ...alarm, state: 'acknowledged', acknowledgedBy: by });
      appendAudit(this.#database, this.#clock, [audit]);
      this.#tell('alarm.acknowledged', alarm.id);
    });
  }

  async find(id: string): Promise<Alarm | null> {
    const row = this.#database.get('select * from alarms where id = ?', id);
    return row === undefined ? null : alarmOf(row);
  }

  async list(filter: {
    readonly before: number | null;
    readonly host: string | null;
    readonly cleared: boolean;
    readonly limit: number;
  }): Promise<readonly AlarmRecord[]> {
    const conditions = [
      'sequence < ?',
      ...(filter.host === null ? [] : ['host = ?']),
      ...(filter.cleared ? [] : ["state <> 'cleared'"]),
    ];
    const rows = this.#database.all(
      `select * from alarms where ${conditions.join(' and ')} order by sequence desc limit ?`,
      filter.before ?? Number.MAX_SAFE_INTEGER,
      ...(filter.host === null ? [] : [filter.host]),
      filter.limit,
    );
    return rows.map((row) => ({ sequence: integer(row, 'sequence'), alarm: alarmOf(row) }));
  }

  async prune(before: Instant): Promise<void> {
    this.#database.run("delete from alarms where state = 'cleared' and cleared_at < ?", before);
  }

  #apply({ kind, alarm }: AlarmChange): void {
    switch (kind) {
      case 'raise':
        this.#insert(alarm);
        this.#tell('alarm.raised', alarm.id);
        break;
      case 'escalate':
        this.#update(alarm);
        this.#tell('alarm.raised', alarm.id);
        break;
      case 'note':
        this.#update(alarm);
        break;
      case 'clear':
        this.#database.run(
          "update alarms set state = 'cleared', cleared_at = ? where id = ?",
          this.#clock.now(),
          alarm.id,
        );
        this.#tell('alarm.cleared', alarm.id);
    }
  }

  #insert(alarm: OpenAlarm): void {
    this.#database.run(
      `insert into alarms (id, source, kind, subject, host, severity, message, action, state, raised_at, seen)
        values (?, ?, ?, ?, ?, ?, ?, ?, 'raised', ?, ?)`,
      alarm.id,
      alarm.source,
      alarm.kind,
      lineOf(alarm.subject),
      alarm.host,
      alarm.severity,
      textOf(alarm.message),
      textOf(alarm.action),
      alarm.raisedAt,
      alarm.seen,
    );
  }

  #update(alarm: OpenAlarm): void {
    this.#database.run(
      `update alarms set host = ?, severity = ?, message = ?, action = ?, state = ?, acknowledged_by = ?, gone_since = ?, seen = ?
        where id = ? and state <> 'cleared'`,
      alarm.host,
      alarm.severity,
      textOf(alarm.message),
      textOf(alarm.action),
      alarm.state,
      alarm.acknowledgedBy,
      alarm.goneSince,
      alarm.seen,
      alarm.id,
    );
  }

  #tell(event: Parameters<typeof enqueueDelivery>[1], id: string): void {
    const row = this.#database.get('select * from alarms where id = ?', id);
    if (row === undefined) return;
    const alarm = alarmOf(row);
    appendEvent(this.#database, this.#clock, {
      kind: event,
      subject: alarm.subject,
      message: `${alarm.severity} ${alarm.kind}: ${alarm.message}`,
    });
    enqueueDelivery(this.#database, event, alarm, this.#clock.now());
  }
}

function commonOf(row: Row) {
  return {
    id: text(row, 'id'),
    kind: text(row, 'kind') as AlarmKind,
    severity: text(row, 'severity') as AlarmSeverity,
    host: textOrNull(row, 'host'),
    subject: text(row, 'subject'),
    message: text(row, 'message'),
    action: text(row, 'action'),
    raisedAt: time(row, 'raised_at'),
    acknowledgedBy: textOrNull(row, 'acknowledged_by'),
    seen: integer(row, 'seen'),
  };
}

function alarmOf(row: Row): Alarm {
  return {
    ...commonOf(row),
    state: text(row, 'state') as Alarm['state'],
    clearedAt: timeOrNull(row, 'cleared_at'),
  };
}
