import { TrustError } from '@virt-trust/base/error.ts';
import type { InterfaceWord, SetInterface } from '@virt-trust/contract/model/interface.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { AdministratorWord, Host } from '../hosts/host.ts';
import { interfacesByName, reportOf } from '../hosts/network-report.ts';
import { givenAddress, givenDnsName, type Neighbours } from './given-names.ts';
import { isLoopback, wordOf } from './roles.ts';

/** What becomes of an administrator's word, and what that changes in words for people. */
export interface WordChange {
  readonly word: AdministratorWord;
  readonly said: string;
}

/** Nothing said: all is as settings and the host's report have it. */
const SILENT: InterfaceWord = { roles: null, dns: [], addresses: [] };

/** So many accepted and released addresses of a host are remembered, the newest. */
const MOST_REMEMBERED = 512;

/**
 * The administrator's word of a host after `interface set`; pure. Throws where the host has no such interface, where it
 * can't have a role, or where a name or address can't be this host's.
 */
export function interfaceWordAfter(
  host: Host,
  name: string,
  order: SetInterface,
  neighbours: Neighbours,
): WordChange {
  assertCanServe(host, name);
  const before = wordOf(host.word, name) ?? SILENT;
  const given: InterfaceWord = {
    roles: order.roles === undefined ? before.roles : order.roles,
    dns: order.dns === undefined ? before.dns : order.dns.map((one) => givenDnsName(one, host, neighbours)),
    addresses:
      order.addresses === undefined
        ? before.addresses
        : [...new Set(order.addresses.map((one) => givenAddress(one, host, neighbours)))],
  };
  const leaving = new Set((order.release ?? []).map(canonicalIpAddress));
  assertHeld(host, leaving);
  const keep = (address: string) => !leaving.has(address);
  const after: InterfaceWord = { ...given, addresses: given.addresses.filter(keep) };
  const fresh = acceptedBy(order, host, name, neighbours).filter(keep);
  const accepted = [...new Set([...host.word.accepted.filter(keep), ...fresh])].slice(-MOST_REMEMBERED);
  const anew = new Set([...fresh, ...after.addresses]);
  const released = [...new Set([...(host.word.released ?? []), ...leaving])].filter((one) => !anew.has(one));
  const interfaces = Object.fromEntries([
    ...Object.entries(host.word.interfaces)
      .filter(([other]) => other !== name)
      .map(([other, word]) => [other, { ...word, addresses: word.addresses.filter(keep) }] as const),
    ...(isSilent(after) ? [] : [[name, after] as const]),
  ]);
  const { outside } = host.word;
  return {
    word: {
      ...host.word,
      accepted,
      released: released.slice(-MOST_REMEMBERED),
      outside: { ...outside, addresses: outside.addresses.filter(keep) },
      interfaces,
    },
    said: describeChange(before, after, {
      accepted: fresh.filter((address) => !host.word.accepted.includes(address)),
      released: [...leaving],
    }),
  };
}

function isSilent({ roles, dns, addresses }: InterfaceWord): boolean {
  return roles === null && dns.length === 0 && addresses.length === 0;
}

function assertCanServe(host: Host, name: string): void {
  const reported = interfacesByName(reportOf(host));
  const one = reported.get(name);
  if (isLoopback(name, one)) {
    throw new TrustError(
      'interface.loopback',
      'invalid',
      `cannot set interface ${name} of host ${host.name}: nobody else reaches a loopback`,
      { hint: `see those that can have a role with: virt-trust interface list ${host.name}` },
    );
  }
  const known = [
    ...[...reported.values()].filter(({ leftOut }) => leftOut === null).map((candidate) => candidate.name),
    ...host.declared.interfaces.map((candidate) => candidate.name),
    ...Object.keys(host.word.interfaces),
  ];
  if (one !== undefined || known.includes(name)) return;
  const names = [...new Set(known)].slice(0, 32).join(', ');
  throw new TrustError(
    'interface.unknown',
    'not-found',
    `cannot set interface ${name} of host ${host.name}: it has none of that name`,
    { hint: names === '' ? `it has reported none: virt-trust host collect ${host.name}` : `it has ${names}` },
  );
}

function assertHeld(host: Host, leaving: ReadonlySet<string>): void {
  const { word, declared } = host;
  const spoken = Object.values(word.interfaces).flatMap(({ addresses }) => addresses);
  const has = new Set([
    ...declared.names.addresses,
    ...word.accepted,
    // Once more, as after an answer that was lost.
    ...(word.released ?? []),
    ...word.outside.addresses,
    ...spoken,
  ]);
  for (const address of leaving) {
    if (has.has(address)) continue;
    throw new TrustError(
      'interface.address_not_held',
      'not-found',
      `cannot release ${address} of host ${host.name}: it has no such address`,
      { hint: `see what it has with: virt-trust interface list ${host.name}` },
    );
  }
}

/**
 * The addresses that are reported on the interface and accepted with it; without being asked for none that was released.
 * SECURITY: nor what another host has, or the manager: a later change would hand it over.
 */
function acceptedBy(order: SetInterface, host: Host, name: string, neighbours: Neighbours): string[] {
  if (order.accept === false) return [];
  const released = order.accept === true ? [] : (host.word.released ?? []);
  const one = interfacesByName(reportOf(host)).get(name);
  return (one?.addresses ?? [])
    .filter(({ leftOut }) => leftOut === null)
    .map(({ address }) => claimKey(address))
    .filter(
      (address) =>
        isIpAddress(address) &&
        neighbours.holderOf(address) === null &&
        !neighbours.managerNames.addresses.includes(address) &&
        !released.includes(address),
    );
}

function describeChange(
  before: InterfaceWord,
  after: InterfaceWord,
  { accepted, released }: { readonly accepted: readonly string[]; readonly released: readonly string[] },
): string {
  const parts = [
    change('roles', rolesIn(before), rolesIn(after)),
    change('names', listed(before.dns), listed(after.dns)),
    change('addresses', listed(before.addresses), listed(after.addresses)),
    accepted.length === 0 ? null : `accepted ${listed(accepted)}`,
    released.length === 0 ? null : `released ${listed(released)}`,
  ].filter((part) => part !== null);
  return parts.length === 0 ? 'nothing new' : parts.join('; ');
}

function change(what: string, before: string, after: string): string | null {
  return before === after ? null : `${what} ${after}, before ${before}`;
}

function rolesIn({ roles }: InterfaceWord): string {
  return roles === null ? 'as set for all' : listed(roles);
}

function listed(all: readonly string[]): string {
  return all.length === 0 ? 'none' : all.join(', ');
}
