import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Interface, Inventory } from '@virt-trust/contract/model/inventory.ts';
import { claimKey } from '../interfaces/claim-key.ts';
import { isDeclarableName } from '../interfaces/declarable-name.ts';
import { declarationOf } from '../interfaces/declare.ts';
import type { InterfaceSettings } from '../interfaces/interface-settings.ts';
import { nameConflict } from '../interfaces/name-conflict.ts';
import { interfacesByName } from '../interfaces/network-report.ts';
import { rolesOf } from '../interfaces/roles.ts';
import { servingAddresses } from '../interfaces/serving-addresses.ts';
import { addressOfNobody, dnsNameOfNobody } from '../issuance/forbidden-names.ts';
import type { AdministratorWord, Declaration, Host } from './host.ts';

export interface DeclarationInput {
  readonly hostName: string;
  /** The address that the administrator gave for SSH, where it is one. */
  readonly sshHost: string;
  readonly channel: Host['channel'];
  readonly interface: string | undefined;
  readonly names: readonly string[];
  readonly inventory: Inventory;
  readonly settings: InterfaceSettings;
  readonly managerNames: SubjectAltNames;
  /** What was said of the host before, where it is added again. */
  readonly known: AdministratorWord | undefined;
  /** Names and addresses that other hosts have, by their claim keys, with the other's name. */
  readonly holders: ReadonlyMap<string, string>;
}

/**
 * What the administrator accepts by adding the host: the name given, the host name reported, and the addresses that its
 * interfaces with a role have now, the management interface above all. Throws `host.no_interface` where that one is not
 * clear, and `host.name_conflict` where another host has one of the host's names or an address of that interface.
 */
export function declare(input: DeclarationInput): { word: AdministratorWord; declared: Declaration } {
  const { hostName: name, channel, inventory, settings, managerNames, known, holders } = input;
  const management = managementInterface(input).name;
  const dns = [name, ...input.names, inventory.hostName].map(claimKey);
  const said: AdministratorWord = {
    dns: [...new Set(dns.filter(isHostDnsName))].slice(0, 32),
    accepted: [],
    outside: known?.outside ?? { dns: [], addresses: [] },
    interfaces: known?.interfaces ?? {},
  };
  const host = {
    name,
    channel,
    declared: { interface: management, names: { dns: [], addresses: [] }, interfaces: [], refused: [] },
    word: said,
  };
  const roles = rolesOf(host, inventory, settings);
  const addresses = servingAddresses(interfacesByName(inventory), []);
  const has = (one: string) => (addresses.get(one) ?? []).map(({ address }) => address);
  for (const claimed of [...said.dns, ...has(management)]) {
    const holder = holders.get(claimKey(claimed));
    if (holder !== undefined) throw nameConflict(name, claimed, holder);
  }
  const managers = managerNames.addresses.map(claimKey);
  const accepted = [...new Set([...roles.keys()].flatMap(has))].filter(
    // SECURITY: what is not the host's now, nobody has accepted should it be free later.
    (address) =>
      addressOfNobody(address) === undefined && !managers.includes(address) && !holders.has(address),
  );
  const word = { ...said, accepted: accepted.slice(0, MOST_ACCEPTED) };
  const declared = declarationOf({
    host: { ...host, word },
    report: inventory,
    settings,
    managerNames,
    holderOf: (one) => holders.get(claimKey(one)) ?? null,
  });
  return { word, declared };
}

const MOST_ACCEPTED = 512;

/** All names and addresses that a host could be declared with: those to ask holders of. */
export function namesToClaim({
  hostName,
  names,
  inventory,
  known,
}: Pick<DeclarationInput, 'hostName' | 'names' | 'inventory' | 'known'>): string[] {
  const said = Object.values(known?.interfaces ?? {});
  return [
    hostName,
    ...names,
    inventory.hostName,
    ...inventory.interfaces.flatMap(({ addresses }) => addresses.map(({ address }) => address)),
    ...(known?.outside.dns ?? []),
    ...(known?.outside.addresses ?? []),
    ...said.flatMap(({ dns, addresses }) => [...dns, ...addresses]),
  ];
}

/** A name that can be another machine's or this machine's own loopback is never declared for a host. */
function isHostDnsName(name: string): boolean {
  return isDeclarableName(name) && dnsNameOfNobody(name) === undefined;
}

/** The addresses of an interface that clients can use: no link-local, loopback or host scope. */
function usableAddresses(one: Interface): string[] {
  return one.addresses
    .filter(({ leftOut, scope }) => leftOut === null && scope === 'global')
    .map(({ address }) => claimKey(address));
}

function managementInterface(input: DeclarationInput): Interface {
  const interfaces = [...interfacesByName(input.inventory).values()];
  if (input.interface !== undefined) {
    const named = interfaces.find((one) => one.name === input.interface);
    if (named !== undefined && usableAddresses(named).length > 0) return named;
    throw noInterface(input, `it has no interface ${input.interface} with an address`);
  }
  const carrying = interfaces.filter((one) => usableAddresses(one).includes(claimKey(input.sshHost)));
  if (carrying[0] !== undefined) return carrying[0];
  const usable = interfaces.filter(
    (one) =>
      one.up &&
      one.leftOut === null &&
      one.name !== 'lo' &&
      !/^(?:virbr|vnet|tap|docker|br-)/.test(one.name) &&
      usableAddresses(one).length > 0,
  );
  if (usable.length === 1 && usable[0] !== undefined) return usable[0];
  throw noInterface(
    input,
    usable.length === 0 ? 'none has an address' : `it could be ${usable.map((one) => one.name).join(' or ')}`,
  );
}

function noInterface(input: DeclarationInput, why: string): TrustError {
  return new TrustError(
    'host.no_interface',
    'invalid',
    `cannot tell the management interface of host ${input.hostName}: ${why}`,
    {
      hint: 'name it with --interface',
    },
  );
}
