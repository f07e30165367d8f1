import {
  type DeclaredInterface,
  INTERFACE_ROLES,
  type InterfaceRole,
  type InterfaceWord,
} from '@virt-trust/contract/model/interface.ts';
import type { HostNetwork, Interface } from '@virt-trust/contract/model/inventory.ts';
import { isInSubnet, parseIpSubnet } from '@virt-trust/pki/ip-subnet.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { AdministratorWord, Host } from '../hosts/host.ts';
import { interfacesByName } from '../hosts/network-report.ts';
import type { InterfaceSettings } from './interface-settings.ts';
import { type ServingAddress, servingAddresses } from './serving-addresses.ts';

/** A role with where it comes from: `host add`, `interface set`, `setting role.display (cluster rack1)`. */
export interface RoleGiven {
  readonly role: InterfaceRole;
  readonly from: string;
}

/** What of a host says which interfaces have roles. */
export type RoleHolder = Pick<Host, 'declared' | 'word' | 'channel'>;

/**
 * Which interfaces have which roles: as an administrator said of the interface, else by the settings; and where none is
 * for management by these, the one accepted at `host add`. Interfaces without a role are not in it; ones that are not
 * reported are, where an administrator gave them a role. Pure.
 */
export function rolesOf(
  host: RoleHolder,
  report: HostNetwork | null,
  settings: InterfaceSettings,
): ReadonlyMap<string, readonly RoleGiven[]> {
  const interfaces = interfacesByName(report);
  const addresses = servingAddresses(interfaces, host.declared.interfaces);
  const given = new Map<string, RoleGiven[]>();
  for (const name of new Set([...interfaces.keys(), ...Object.keys(host.word.interfaces).sort()])) {
    const roles = ownRoles(name, interfaces.get(name), addresses.get(name) ?? [], host.word, settings);
    if (roles.length > 0) given.set(name, roles);
  }
  if ([...given.values()].some((roles) => roles.some(({ role }) => role === 'management'))) return given;
  const accepted = acceptedManagement(host, interfaces, addresses);
  if (accepted !== null)
    given.set(accepted, [{ role: 'management', from: 'host add' }, ...(given.get(accepted) ?? [])]);
  return given;
}

/** What an administrator said of an interface, or null. */
export function wordOf(word: AdministratorWord, name: string): InterfaceWord | null {
  // SECURITY: a host may well call an interface `constructor`.
  return Object.hasOwn(word.interfaces, name) ? (word.interfaces[name] ?? null) : null;
}

function ownRoles(
  name: string,
  one: Interface | undefined,
  addresses: readonly ServingAddress[],
  word: AdministratorWord,
  settings: InterfaceSettings,
): RoleGiven[] {
  const said = wordOf(word, name)?.roles ?? null;
  // What an agent leaves out (a tap, libvirt's own network) an administrator may know better, of loopback nobody does.
  if (said !== null)
    return isLoopback(name, one)
      ? []
      : INTERFACE_ROLES.filter((role) => said.includes(role)).map((role) => ({
          role,
          from: 'interface set',
        }));
  if (one === undefined || one.leftOut !== null || isLoopback(name, one)) return [];
  return INTERFACE_ROLES.filter((role) => isMeant(settings.roles[role].entries, name, addresses)).map(
    (role) => ({ role, from: settings.roles[role].from }),
  );
}

/** Nobody but the host itself is there, whatever is said of it. */
export function isLoopback(name: string, one: Interface | undefined): boolean {
  return name === 'lo' || /loopback/i.test(one?.leftOut ?? '');
}

function isMeant(entries: readonly string[], name: string, addresses: readonly ServingAddress[]): boolean {
  return entries.some((entry) => {
    if (!entry.includes('/')) return globOf(entry).test(name);
    const subnet = parseIpSubnet(entry);
    return !('problem' in subnet) && addresses.some(({ address }) => isInSubnet(subnet, address));
  });
}

/** `*` for any number of characters, `?` for one; all else is itself. */
function globOf(entry: string): RegExp {
  const pattern = entry
    .replace(/\*+/g, '*')
    .replace(/[\\^$.|+()[\]{}]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${pattern}$`, 'su');
}

/**
 * The interface accepted at `host add`; where it has no address any more, the one that its addresses went to, as when it
 * became a port of a bridge.
 */
function acceptedManagement(
  { declared, channel }: RoleHolder,
  interfaces: ReadonlyMap<string, Interface>,
  addresses: ReadonlyMap<string, readonly ServingAddress[]>,
): string | null {
  const accepted = declared.interface;
  if (accepted === null || interfaces.size === 0) return accepted;
  const has = addresses.get(accepted) ?? [];
  if (has.length > 0 || interfaces.get(accepted)?.up === false) return accepted;
  // The channel may have come back over a network of another role: management does not move there with it.
  const others = declared.interfaces
    .filter(({ roles }) => !roles.includes('management'))
    .flatMap(addressesOf);
  const former = [...managementOf(declared.interfaces), claimKey(channel.address)].filter(
    (address) => !others.includes(address),
  );
  const heir = [...interfaces.values()].find(
    ({ name, leftOut }) =>
      leftOut === null && (addresses.get(name) ?? []).some(({ address }) => former.includes(address)),
  );
  return heir?.name ?? accepted;
}

function managementOf(interfaces: readonly DeclaredInterface[]): string[] {
  return interfaces.filter(({ roles }) => roles.includes('management')).flatMap(addressesOf);
}

function addressesOf({ names }: DeclaredInterface): string[] {
  return names.addresses.map(claimKey);
}
