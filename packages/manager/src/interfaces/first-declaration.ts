import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Interface } from '@virt-trust/contract/model/inventory.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { AdministratorWord, Declaration, HostRepository } from '../hosts/host.ts';
import { nameConflict } from '../hosts/name-conflict.ts';
import { interfacesByName } from '../hosts/network-report.ts';
import type { AddedHost, HostsContext } from '../hosts/ports.ts';
import { addressOfNobody, dnsNameOfNobody } from '../issuance/forbidden-names.ts';
import type { Settings } from '../settings/settings.ts';
import { isDeclarableName } from './declarable-name.ts';
import { declarationOf } from './declare.ts';
import { type InterfaceSettings, interfaceSettingsOf } from './interface-settings.ts';
import { NOT_CERTIFIABLE } from './refused-names.ts';
import { rolesOf } from './roles.ts';
import { servingAddresses } from './serving-addresses.ts';

export interface DeclarationInput extends Omit<AddedHost, 'id' | 'cluster'> {
  readonly settings: InterfaceSettings;
  readonly managerNames: SubjectAltNames;
  /** Whether the authorities may certify a name or address at all. */
  readonly mayCertify: (name: string) => boolean;
  /** Names and addresses that other hosts have, by their claim keys, with the other's name. */
  readonly holders: ReadonlyMap<string, string>;
}

const MOST_ACCEPTED = 512;

interface Sources extends Pick<HostsContext, 'managerNamesFor' | 'mayCertify'> {
  readonly isOnManager: (channel: AddedHost['channel']) => boolean;
  readonly repository: Pick<HostRepository, 'holders'>;
  readonly settings: Pick<Settings, 'value' | 'explain'>;
}

const NOTHING_SAID: AdministratorWord = {
  dns: [],
  accepted: [],
  outside: { dns: [], addresses: [] },
  interfaces: {},
};

/** `declare` with the settings and the claims of now. */
export async function declareAdded(
  added: AddedHost,
  { repository, settings, managerNamesFor, mayCertify, isOnManager }: Sources,
): Promise<{ word: AdministratorWord; declared: Declaration }> {
  const { id, hostName, cluster, channel } = added;
  const known = { ...(added.known ?? NOTHING_SAID), onManager: isOnManager(channel) };
  return declare({
    ...added,
    known,
    settings: await interfaceSettingsOf(settings, { name: hostName, cluster }),
    managerNames: managerNamesFor({ word: known }),
    mayCertify,
    holders: await repository.holders(namesToClaim(added), id),
  });
}

/**
 * What the administrator accepts by adding the host: the name given, the host name reported, and the addresses that its
 * interfaces with a role have now, the management interface above all. Throws `host.no_interface` where that one is not
 * clear, and `host.name_conflict` where another host has one of the host's names or an address of that interface.
 */
export function declare(input: DeclarationInput): { word: AdministratorWord; declared: Declaration } {
  const { hostName: name, channel, inventory, settings, managerNames, mayCertify, known, holders } = input;
  const management = managementInterface(input).name;
  const given = [name, ...input.names].map(claimKey).filter(isHostDnsName);
  const uncertifiable = given.find((one) => !mayCertify(one));
  if (uncertifiable !== undefined) throw notCertifiable(name, uncertifiable);
  const reported = claimKey(inventory.hostName);
  // SECURITY: nobody gave that name, and in some domain another machine's short name is what everybody calls that machine.
  const label = labelOf(reported);
  const isOthers =
    label !== reported && (holders.has(label) || managerNames.dns.map(claimKey).includes(label));
  const counts = isHostDnsName(reported) && mayCertify(reported) && !isOthers;
  const dns = [...given, ...(counts ? [reported] : [])];
  const said: AdministratorWord = {
    ...NOTHING_SAID,
    dns: [...new Set(dns)].slice(0, 32),
    ...(known && { outside: known.outside, interfaces: known.interfaces }),
    ...(known?.onManager !== undefined && { onManager: known.onManager }),
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
    mayCertify,
    holderOf: (one) => holders.get(claimKey(one)) ?? null,
  });
  return { word, declared };
}

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
    labelOf(claimKey(inventory.hostName)),
    ...inventory.interfaces.flatMap(({ addresses }) => addresses.map(({ address }) => address)),
    ...(known?.outside.dns ?? []),
    ...(known?.outside.addresses ?? []),
    ...said.flatMap(({ dns, addresses }) => [...dns, ...addresses]),
  ];
}

function labelOf(name: string): string {
  return name.split('.', 1)[0] ?? name;
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

function notCertifiable(host: string, name: string): TrustError {
  return new TrustError(
    'host.name_not_permitted',
    'invalid',
    `cannot record host ${host}: certificates can't say ${name}: ${NOT_CERTIFIABLE.reason}`,
    { context: { name }, hint: `add it under a name that they were made for; ${NOT_CERTIFIABLE.hint}` },
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
