import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { DeclaredInterface, InterfaceRole, RefusedName } from '@virt-trust/contract/model/interface.ts';
import type { HostNetwork } from '@virt-trust/contract/model/inventory.ts';
import { type IpSubnet, isInSubnet, parseIpSubnet } from '@virt-trust/pki/ip-subnet.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { Declaration, Host } from '../hosts/host.ts';
import { interfacesByName } from '../hosts/network-report.ts';
import { addressOfNobody, dnsNameOfNobody } from '../issuance/forbidden-names.ts';
import { isDeclarableName } from './declarable-name.ts';
import type { InterfaceSettings } from './interface-settings.ts';
import {
  addressConflict,
  CONFLICT_RULES,
  NOT_CERTIFIABLE,
  nameConflict,
  nameOfManager,
  ofNobody,
  outsideDomains,
  outsideSubnets,
  type Refusal,
  type RefusedContext,
  released,
  shortNameConflict,
  shortNameOfManager,
  tooMany,
} from './refused-names.ts';
import { rolesOf, wordOf } from './roles.ts';
import { inOrder, servingAddresses } from './serving-addresses.ts';

/** Everything that a declaration is made of. */
export interface DeclarationFacts {
  readonly host: Pick<Host, 'name' | 'declared' | 'word' | 'channel'>;
  /** What the host reports; null before it has. */
  readonly report: HostNetwork | null;
  readonly settings: InterfaceSettings;
  /** Names and addresses of the manager itself, none where it runs on this host. */
  readonly managerNames: SubjectAltNames;
  /** The other host that a name or address belongs to; null where it is free, or this host's. */
  readonly holderOf: (name: string) => string | null;
  /** Whether the authorities may certify a name or address at all. */
  readonly mayCertify: (name: string) => boolean;
}

const MOST_INTERFACES = 64;
const MOST_ADDRESSES = 64;
const MOST_DNS = 32;
const MOST_REFUSED = 128;
/** SECURITY: of so many reported addresses each is looked up; no kernel in use has more. */
const MOST_LOOKED_AT = 2048;

/**
 * What a host may have certificates for: of its interfaces with a role the names and addresses that are an administrator's
 * word, or reported within what the settings allow; never one that stands for nobody, the manager's, or another host's.
 * The same facts give the same declaration, in whatever order a report has them. Pure.
 */
export function declarationOf(facts: DeclarationFacts): Declaration {
  return new Declaring(facts).declare();
}

type Kind = 'dns' | 'addresses';

interface Names {
  readonly dns: Set<string>;
  readonly addresses: Set<string>;
}

interface Serving {
  readonly name: string;
  readonly roles: readonly InterfaceRole[];
  readonly names: Names;
}

class Declaring {
  readonly #facts: DeclarationFacts;
  readonly #subnets: readonly IpSubnet[];
  readonly #accepted: ReadonlySet<string>;
  readonly #released: ReadonlySet<string>;
  readonly #manager: ReadonlySet<string>;
  readonly #used: Names = { dns: new Set(), addresses: new Set() };
  readonly #refused = new Map<string, RefusedName>();

  constructor(facts: DeclarationFacts) {
    const { settings, host, managerNames } = facts;
    const roleEntries = Object.values(settings.roles).flatMap(({ entries }) => entries);
    this.#facts = facts;
    this.#subnets = [...settings.allowedSubnets, ...roleEntries].flatMap((text) => {
      const subnet = parseIpSubnet(text);
      return 'problem' in subnet ? [] : [subnet];
    });
    this.#accepted = new Set(host.word.accepted.map(claimKey));
    this.#released = new Set((host.word.released ?? []).map(claimKey));
    this.#manager = new Set([...managerNames.dns, ...managerNames.addresses].map(claimKey));
  }

  declare(): Declaration {
    const { host, report, settings } = this.#facts;
    const roles = rolesOf(host, report, settings);
    const byHostAdd = [...roles].find(([, given]) => given.some(({ from }) => from === 'host add'))?.[0];
    const primary = byHostAdd ?? host.declared.interface;
    const serving = [...roles]
      .map(([name, given]) => ({
        name,
        roles: given.map(({ role }) => role),
        names: { dns: new Set<string>(), addresses: new Set<string>() },
      }))
      .sort((a, b) => rankOf(a, primary) - rankOf(b, primary) || (a.name < b.name ? -1 : 1))
      .slice(0, MOST_INTERFACES);
    // What administrators said comes first: no report, however long, leaves it no room.
    this.#takeWord(serving);
    this.#takeReport(serving);
    const interfaces = serving.filter(({ names }) => names.dns.size + names.addresses.size > 0).map(declared);
    return {
      interface: primary,
      names: unionOf(interfaces),
      interfaces,
      refused: this.#refusedInOrder(),
    };
  }

  #takeWord(serving: readonly Serving[]): void {
    const { word } = this.#facts.host;
    const management = serving.filter(({ roles }) => roles.includes('management'));
    for (const one of management) for (const name of word.dns) this.#dns(one, name);
    const [first] = management;
    if (first !== undefined) {
      for (const name of word.outside.dns) this.#dns(first, name);
      for (const address of word.outside.addresses) this.#address(first, address, 'word');
    }
    for (const one of serving) {
      const said = wordOf(word, one.name);
      for (const name of said?.dns ?? []) this.#dns(one, name);
      for (const address of said?.addresses ?? []) this.#address(one, address, 'word');
    }
  }

  #takeReport(serving: readonly Serving[]): void {
    const { host, report } = this.#facts;
    const interfaces = interfacesByName(report);
    const addresses = servingAddresses(interfaces, host.declared.interfaces);
    this.#takeHostName(serving);
    for (const accepted of [true, false]) {
      let looked = 0;
      for (const one of serving) {
        for (const { address, byReport } of addresses.get(one.name) ?? []) {
          looked += 1;
          if (looked > MOST_LOOKED_AT) break;
          if (this.#accepted.has(address) !== accepted || one.names.addresses.has(address)) continue;
          if (accepted || byReport) this.#address(one, address, accepted ? 'word' : 'report');
        }
      }
    }
  }

  #takeHostName(serving: readonly Serving[]): void {
    const { host, report, settings } = this.#facts;
    const name = claimKey(report?.hostName ?? '');
    // A machine that was never given a name says localhost, or nothing.
    if (!isDeclarableName(name) || dnsNameOfNobody(name) !== undefined) return;
    if (host.word.dns.some((said) => claimKey(said) === name)) return;
    if (serving.some(({ names }) => names.dns.has(name))) return;
    const context = { host: host.name, name, interface: null };
    const allowed = settings.allowedDomains.some(
      (domain) => name === domain.toLowerCase() || name.endsWith(`.${domain.toLowerCase()}`),
    );
    const unclaimed = !this.#manager.has(name) && this.#facts.holderOf(name) === null;
    // SECURITY: in an allowed domain, another machine's short name makes the name by which everybody calls that machine.
    const [label = name] = name.split('.', 1);
    const holder = this.#facts.holderOf(label);
    if (unclaimed && !allowed) this.#refuse(context, outsideDomains(context));
    else if (unclaimed && this.#manager.has(label)) this.#refuse(context, shortNameOfManager(context));
    else if (unclaimed && holder !== null) this.#refuse(context, shortNameConflict(context, holder));
    else for (const one of serving) if (one.roles.includes('management')) this.#dns(one, name, context);
  }

  #dns(one: Serving, said: string, context?: RefusedContext): void {
    const name = claimKey(said);
    const refused = context ?? { host: this.#facts.host.name, name, interface: one.name };
    const against = this.#againstDns(refused);
    if (against === null) this.#take('dns', one, refused, MOST_DNS);
    else this.#refuse(refused, against);
  }

  #againstDns(context: RefusedContext): Refusal | null {
    const { name } = context;
    const nobody = isDeclarableName(name)
      ? dnsNameOfNobody(name)
      : { rule: 'issuance.name_malformed', reason: 'it is no host name' };
    if (nobody !== undefined) return ofNobody(nobody);
    if (this.#manager.has(name)) return nameOfManager();
    const holder = this.#facts.holderOf(name);
    if (holder !== null) return nameConflict(context, holder);
    return this.#facts.mayCertify(name) ? null : NOT_CERTIFIABLE;
  }

  #address(one: Serving, said: string, from: 'word' | 'report'): void {
    const refused = { host: this.#facts.host.name, name: claimKey(said), interface: one.name };
    const against = this.#againstAddress(refused, from);
    if (against === null) this.#take('addresses', one, refused, MOST_ADDRESSES);
    else this.#refuse(refused, against);
  }

  #againstAddress(context: RefusedContext, from: 'word' | 'report'): Refusal | null {
    const address = context.name;
    const nobody = addressOfNobody(address);
    if (nobody !== undefined) return ofNobody(nobody);
    if (this.#manager.has(address)) return nameOfManager();
    const holder = this.#facts.holderOf(address);
    if (holder !== null) return addressConflict(context, holder);
    // SECURITY: what an agent says counts only where an administrator has said that it may.
    const counts = from === 'word' || this.#subnets.some((subnet) => isInSubnet(subnet, address));
    if (from === 'report' && this.#released.has(address)) return released(context);
    if (!counts) return outsideSubnets(context);
    return this.#facts.mayCertify(address) ? null : NOT_CERTIFIABLE;
  }

  #take(kind: Kind, one: Serving, context: RefusedContext, most: number): void {
    const used = this.#used[kind];
    if (!used.has(context.name) && used.size >= most) {
      this.#refuse(context, tooMany(most));
      return;
    }
    used.add(context.name);
    one.names[kind].add(context.name);
  }

  #refuse({ name, interface: on }: RefusedContext, refusal: Refusal): void {
    const key = `${on ?? ''} ${name}`;
    if (!this.#refused.has(key)) this.#refused.set(key, { name, interface: on, ...refusal });
  }

  /** Conflicts first, so that no number of others hides them. */
  #refusedInOrder(): RefusedName[] {
    const rank = ({ rule, interface: on, name }: RefusedName) =>
      `${CONFLICT_RULES.includes(rule) ? 0 : 1} ${on ?? ''} ${name}`;
    return [...this.#refused.values()].sort((a, b) => (rank(a) < rank(b) ? -1 : 1)).slice(0, MOST_REFUSED);
  }
}

function rankOf(one: Serving, primary: string | null): number {
  if (!one.roles.includes('management')) return 2;
  return one.name === primary ? 0 : 1;
}

function declared({ name, roles, names }: Serving): DeclaredInterface {
  return {
    name,
    roles: [...roles],
    names: { dns: [...names.dns], addresses: inOrder([...names.addresses]) },
  };
}

function unionOf(interfaces: readonly DeclaredInterface[]): SubjectAltNames {
  return {
    dns: [...new Set(interfaces.flatMap(({ names }) => names.dns))],
    addresses: [...new Set(interfaces.flatMap(({ names }) => names.addresses))],
  };
}
