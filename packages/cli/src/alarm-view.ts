import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import { formatTime, writeLine, writeTable } from './output.ts';

/** Alarms as a table; what to do about one is shown with it alone. */
export function writeAlarms(alarms: readonly Alarm[]): void {
  writeTable(
    ['id', 'severity', 'state', 'since', 'kind', 'about', 'what happened'],
    alarms.map((one) => [
      one.id.slice(0, 8),
      one.severity,
      one.state,
      formatTime(one.raisedAt),
      one.kind,
      one.subject,
      one.message.slice(0, 160),
    ]),
  );
}

/** An alarm in the view of what it is about: what happened, and what to do. */
export function writeAlarm(alarm: Alarm): void {
  const state = alarm.state === 'acknowledged' ? ` (seen to by ${alarm.acknowledgedBy ?? '-'})` : '';
  writeLine(`  ${alarm.severity} ${alarm.kind}${state}: ${alarm.message}`);
  writeLine(`    to do: ${alarm.action}`);
}

/** One alarm with everything about it. */
export function writeAlarmDetail(alarm: Alarm): void {
  const lines: [string, string][] = [
    ['id', alarm.id],
    ['about', alarm.subject],
    ['kind', alarm.kind],
    ['severity', alarm.severity],
    ['state', alarm.state],
    ['raised', formatTime(alarm.raisedAt)],
    ['seen', `${alarm.seen} ${alarm.seen === 1 ? 'time' : 'times'}`],
    ['seen to by', alarm.acknowledgedBy ?? '-'],
    ['cleared', formatTime(alarm.clearedAt)],
    ['host', alarm.host ?? '-'],
    ['happened', alarm.message],
    ['to do', alarm.action],
  ];
  for (const [name, value] of lines) writeLine(`${name.padEnd(12)} ${value}`);
}
