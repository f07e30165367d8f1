import type { RefusedName } from '@virt-trust/contract/model/interface.ts';

/** The rules by which two hosts have one name or address: an alarm of its own, and looked at again when it is let go. */
export const CONFLICT_RULES: readonly string[] = ['interface.address_conflict', 'interface.name_conflict'];

/** What stands beside the name that is refused. */
export interface RefusedContext {
  readonly host: string;
  readonly name: string;
  /** Null for the host's own name. */
  readonly interface: string | null;
}

/** Why a name is refused, and the way out. */
export type Refusal = Pick<RefusedName, 'rule' | 'reason' | 'hint'>;

/** SECURITY: the kernel lets an interface be called `x;halt`, and people copy commands from hints. */
function inShell(on: string | null): string {
  if (on === null) return 'INTERFACE';
  return /^[\w.@-]+$/.test(on) && !on.startsWith('-') ? on : `'${on.replaceAll("'", "'\\''")}'`;
}

/** Another host has the address. */
export function addressConflict({ host, name }: RefusedContext, holder: string): Refusal {
  return {
    rule: 'interface.address_conflict',
    reason: `host ${holder} has it, and keeps it`,
    hint: `if it moved, host ${holder} lets it go by itself once it reports so; where it can't: virt-trust interface set ${holder} INTERFACE --release ${name}. Else find out why hosts ${host} and ${holder} have one address`,
  };
}

/** Another host has the DNS name. */
export function nameConflict({ host }: RefusedContext, holder: string): Refusal {
  return {
    rule: 'interface.name_conflict',
    reason: `host ${holder} has it, and keeps it`,
    hint: `give one of the hosts ${host} and ${holder} another name`,
  };
}

/** Another host is called so in short: in its domain it is most likely that one's name. */
export function shortNameConflict({ host, name }: RefusedContext, holder: string): Refusal {
  return {
    rule: 'interface.name_conflict',
    reason: `it begins with a name that host ${holder} has, and a report alone does not tell which of the two it is`,
    hint: `where it is host ${host}'s all the same, give it as a name of its management interface: virt-trust interface set ${host} INTERFACE --name ${name}`,
  };
}

/** The manager is called so in short. */
export function shortNameOfManager({ host, name }: RefusedContext): Refusal {
  return {
    ...nameOfManager(),
    reason: "it begins with the manager's own name",
    hint: `where it is host ${host}'s all the same, give it as a name of its management interface: virt-trust interface set ${host} INTERFACE --name ${name}`,
  };
}

/** It is the manager's. */
export function nameOfManager(): Refusal {
  return {
    rule: 'interface.name_of_manager',
    reason: "it is the manager's own",
    hint: "find out why the host says so; the manager's names are certified for no other machine",
  };
}

/** A name that the authorities' name constraints leave out. */
export const NOT_CERTIFIABLE = {
  rule: 'issuance.name_not_permitted',
  reason: 'the authorities were made for other names (RFC 5280 §4.2.1.10)',
  hint: 'see which: virt-trust authority show control; that was said when the manager was started first (serve --permit-dns, --permit-subnet)',
} as const satisfies Refusal;

/** A report alone, outside of where reports count. */
export function outsideSubnets({ host, name, interface: on }: RefusedContext): Refusal {
  return {
    rule: 'interface.outside_subnets',
    reason: `the host reports it, nobody accepted it, and interface.allowed_subnets does not have it`,
    hint: `accept what the interface has now: virt-trust interface set ${host} ${inShell(on)}; or let reports count there: virt-trust setting set interface.allowed_subnets SUBNET that ${name} is in`,
  };
}

/** A host name that was reported alone, outside of where reports count. */
export function outsideDomains({ host, name }: RefusedContext): Refusal {
  return {
    rule: 'interface.outside_domains',
    reason: `the host reports it as its name, nobody gave it that, and interface.allowed_domains does not have it`,
    hint: `give it as a name of the host's management interface: virt-trust interface set ${host} INTERFACE --name ${name}; or let reports count there: virt-trust setting set interface.allowed_domains DOMAIN that ${name} is in`,
  };
}

/** An administrator took it from the host. */
export function released({ host, interface: on }: RefusedContext): Refusal {
  return {
    rule: 'interface.address_released',
    reason: 'an administrator released it, and the host reports it again',
    hint: `take it off the host, or accept it again: virt-trust interface set ${host} ${inShell(on)} --accept`,
  };
}

/** More than a certificate takes. */
export function tooMany(most: number): Refusal {
  return {
    rule: 'interface.too_many',
    reason: `the host's interfaces with a role have more than ${most} such names`,
    hint: 'give roles to fewer interfaces, or take addresses off them',
  };
}

/** No certificate says such a name, whoever asks. */
export function ofNobody(nobody: { readonly rule: string; readonly reason: string }): Refusal {
  return {
    ...nobody,
    hint: 'no certificate is made for such a name, whoever asks; nothing needs to be done',
  };
}
