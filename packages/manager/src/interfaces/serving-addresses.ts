import type { DeclaredInterface } from '@virt-trust/contract/model/interface.ts';
import type { Interface } from '@virt-trust/contract/model/inventory.ts';
import { ipAddressOctets } from '@virt-trust/pki/ip-address.ts';
import { claimKey } from '../hosts/claim-key.ts';

/** An address that an interface may be reached under. */
export interface ServingAddress {
  /** Canonical, where it is an address at all. */
  readonly address: string;
  /** Whether the report alone may speak for it: not what comes up on a link that is down. */
  readonly byReport: boolean;
}

/**
 * The addresses of each interface that clients may be told of, by the interface's name, in order. A link that is down
 * keeps those that it was declared with, so that one that flaps changes no certificate, unless another interface has
 * them now.
 */
export function servingAddresses(
  interfaces: ReadonlyMap<string, Interface>,
  former: readonly DeclaredInterface[],
): ReadonlyMap<string, readonly ServingAddress[]> {
  const live = new Map([...interfaces].map(([name, one]) => [name, usableOf(one)]));
  return new Map(
    [...interfaces].map(([name, { up }]) => {
      const own = live.get(name) ?? [];
      if (up) return [name, inOrder(own).map((address) => ({ address, byReport: true }))];
      const declared = (former.find((one) => one.name === name)?.names.addresses ?? []).map(claimKey);
      const elsewhere = (address: string) =>
        [...live].some(([other, addresses]) => other !== name && addresses.includes(address));
      const kept = declared.filter((address) => own.includes(address) || !elsewhere(address));
      return [
        name,
        inOrder([...kept, ...own]).map((address) => ({ address, byReport: kept.includes(address) })),
      ];
    }),
  );
}

function usableOf(one: Interface): string[] {
  return one.addresses.filter(({ leftOut }) => leftOut === null).map(({ address }) => claimKey(address));
}

/** Each once: IPv4 before IPv6, and by number. */
export function inOrder(addresses: readonly string[]): string[] {
  return [...new Set(addresses)]
    .map((address) => ({ address, sort: sortKey(address) }))
    .sort((a, b) => (a.sort < b.sort ? -1 : a.sort > b.sort ? 1 : 0))
    .map(({ address }) => address);
}

function sortKey(address: string): string {
  const octets = ipAddressOctets(address);
  if (octets === undefined) return `x${address}`;
  return `${octets.length === 4 ? 4 : 6}${Buffer.from(octets).toString('hex')}`;
}
