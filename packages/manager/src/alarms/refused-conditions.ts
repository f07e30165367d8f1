import { CONFLICT_RULES } from '../interfaces/refused-names.ts';
import type { Condition } from './condition.ts';
import type { HostFacts } from './host-facts.ts';

/** Of many names that are refused, this many are named. */
const NAMED = 5;
/** SECURITY: a host that claims ever more has no more alarms than these. */
const MOST_CONFLICTS = 16;

/** What is wrong with the names and addresses that a host reports and gets no certificate for; pure. */
export function refusedConditions(facts: Pick<HostFacts, 'name' | 'refused'>): Condition[] {
  return [...conflicts(facts), ...refusals(facts)];
}

/** One alarm for each: whose the address or name is, is for a person to find out. */
function conflicts({ name, refused }: Pick<HostFacts, 'name' | 'refused'>): Condition[] {
  return refused
    .filter(({ rule }) => CONFLICT_RULES.includes(rule))
    .slice(0, MOST_CONFLICTS)
    .map(({ name: claimed, interface: on, reason, hint }) => ({
      kind: 'address-conflict',
      subject: `${claimed} of host ${name}`,
      host: name,
      severity: 'critical',
      message: `host ${name} gets no certificate for ${claimed}${on === null ? ', its name' : ` on ${on}`}: ${reason}`,
      action: hint,
    }));
}

/** One alarm for all of a host, however many it reports. */
function refusals({ name, refused }: Pick<HostFacts, 'name' | 'refused'>): Condition[] {
  const others = refused.filter(({ rule }) => !CONFLICT_RULES.includes(rule));
  const [first] = others;
  if (first === undefined) return [];
  const words = others
    .slice(0, NAMED)
    .map(({ name: claimed, interface: on, reason }) =>
      on === null ? `${claimed}, its name: ${reason}` : `${claimed} on ${on}: ${reason}`,
    );
  const more = others.length > NAMED ? [`and ${others.length - NAMED} more`] : [];
  return [
    {
      kind: 'address-refused',
      subject: `names of host ${name}`,
      host: name,
      severity: 'warning',
      message: `host ${name} gets no certificate for ${[...words, ...more].join('; ')}`,
      action: first.hint,
    },
  ];
}
