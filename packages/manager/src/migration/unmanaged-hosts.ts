import { BlockList, isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import type { UnmanagedHost } from '@virt-trust/contract/model/unmanaged-host.ts';
import { claimKey } from '../hosts/claim-key.ts';

/** A host without an agent, as an administrator has it. */
export interface UnmanagedHostOrder {
  readonly name: string;
  readonly cluster: string | undefined;
  readonly address: string;
}

/** Where hosts without an agent are kept. Each method is one durable unit of work, its audit entry with it. */
export interface UnmanagedHostStore {
  list(): Promise<readonly UnmanagedHost[]>;
  find(name: string): Promise<UnmanagedHost | null>;
  /**
   * One that is known stays in its cluster where none is said. Throws `host.managed` where a host under management has
   * the name, and `host.name_conflict` where one has the address.
   */
  put(host: UnmanagedHostOrder, actor: string): Promise<UnmanagedHost>;
  /** Throws `host.unknown`. */
  remove(name: string, actor: string): Promise<void>;
}

/** Addresses that lead from each host to another place, or to none. */
const NOWHERE = new BlockList();
for (const [address, prefix] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 3],
] as const)
  NOWHERE.addSubnet(address, prefix, 'ipv4');
for (const [address, prefix] of [
  ['::', 127],
  ['fe80::', 10],
  ['ff00::', 8],
] as const)
  NOWHERE.addSubnet(address, prefix, 'ipv6');

/** The address of a host without an agent in its one form; throws `host.address`. */
export function unmanagedAddress(name: string, address: string): string {
  const family = isIP(address);
  if (family !== 0 && !NOWHERE.check(address, family === 6 ? 'ipv6' : 'ipv4')) return claimKey(address);
  throw new TrustError(
    'host.address',
    'invalid',
    `cannot know host ${name} at ${address}: that is no address at which others reach it`,
    { hint: 'give the IPv4 or IPv6 address at which its libvirtd listens for the other hosts' },
  );
}
