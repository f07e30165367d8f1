import type { RefusedName } from '@virt-trust/contract/model/interface.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { Declaration, Host } from '../hosts/host.ts';

const ACTION = 'host.declare';
/** Of many names, this many are written down. */
const NAMED = 32;

/** What the audit log says of a host that is declared anew: what came and went, and what is refused now and was not before. */
export function auditOfDeclaration(before: Host, after: Host, actor: string): AuditDraft[] {
  const subject = after.name;
  const [was, is] = [placesOf(before.declared), placesOf(after.declared)];
  const came = [...is].filter((place) => !was.has(place));
  const went = [...was].filter((place) => !is.has(place));
  const known = new Set(before.declared.refused.map(identity));
  const refused = after.declared.refused.filter((one) => !known.has(identity(one)));
  const drafts: AuditDraft[] = [];
  if (came.length + went.length > 0) {
    const parts = [
      ...(came.length > 0 ? [`now ${listed(came)}`] : []),
      ...(went.length > 0 ? [`no longer ${listed(went)}`] : []),
    ];
    drafts.push({ actor, action: ACTION, subject, outcome: 'done', detail: parts.join('; ') });
  }
  // One entry for all of them: a host that reports ever more does not fill the log.
  if (refused.length > 0) {
    const detail = listed(refused.map((one) => `${one.rule}: ${one.name} on ${one.interface ?? 'the host'}`));
    drafts.push({ actor, action: ACTION, subject, outcome: 'refused', detail });
  }
  return drafts;
}

function placesOf({ interfaces }: Declaration): ReadonlySet<string> {
  return new Set(
    interfaces.flatMap(({ name, roles, names }) =>
      [...names.dns, ...names.addresses].map((one) => `${one} on ${name} (${roles.join(', ')})`),
    ),
  );
}

function identity({ name, interface: on, rule }: RefusedName): string {
  return `${rule} ${on ?? ''} ${name}`;
}

function listed(words: readonly string[]): string {
  const named = words.slice(0, NAMED);
  return words.length > NAMED ? `${named.join(', ')} and ${words.length - NAMED} more` : named.join(', ');
}
