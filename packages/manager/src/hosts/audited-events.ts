import type { AgentEvent } from '@virt-trust/contract/model/agent-event.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** Which outcome the audit log has for an event of an agent; those that are not here are events alone. */
const AUDITED: ReadonlyMap<string, AuditDraft['outcome']> = new Map([
  // A source that asked for what its migration does not need.
  ['migration.cut_off', 'refused'],
  // A VM that crossed the network in the clear.
  ['migration.plain', 'done'],
]);
/** SECURITY: a host that makes things up does not fill the audit log with them. */
const MOST_AT_ONCE = 10;

/** SECURITY: what an attacker on a host tried, and what went in the clear, is in the audit log, too. */
export function auditsOf(host: string, events: readonly AgentEvent[]): AuditDraft[] {
  const told = events.filter(({ kind }) => AUDITED.has(kind));
  const drafts = told.slice(0, MOST_AT_ONCE).map(({ kind, subject, message }): AuditDraft => {
    const detail = subject === '' ? message : `${subject}: ${message}`;
    return {
      actor: `host:${host}`,
      action: kind,
      subject: host,
      outcome: AUDITED.get(kind) ?? 'done',
      detail,
    };
  });
  const more = told[MOST_AT_ONCE];
  if (more === undefined) return drafts;
  const detail = `and ${told.length - MOST_AT_ONCE} more events of this kind at that time: virt-trust has them among its events`;
  const outcome = AUDITED.get(more.kind) ?? 'done';
  return [...drafts, { actor: `host:${host}`, action: more.kind, subject: host, outcome, detail }];
}
