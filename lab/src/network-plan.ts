import { BlockList } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';

/** The networks of a lab: on each, every host has an interface, in this order eth0, eth1, ... */
export const NETWORK_NAMES = ['management', 'migration', 'display'] as const;
export type NetworkName = (typeof NETWORK_NAMES)[number];

/** Most labs side by side, and the block of networks that each has for itself. */
const LABS = 32;
const NETWORKS_PER_LAB = 8;
const FIRST_HOST = 11;

/** One bridge with a range of both families; the machine itself has the first address of each. */
export interface NetworkPlan {
  readonly name: NetworkName;
  readonly bridge: string;
  readonly machineAddress: string;
  readonly machineAddress6: string;
  /** The range of each family, with its prefix length. */
  readonly ranges: readonly string[];
}

/** A host's interface on one network. */
export interface InterfacePlan {
  readonly network: NetworkName;
  readonly bridge: string;
  /** The name inside the host. */
  readonly name: string;
  /** The name of the cable's other end, on the machine. */
  readonly peer: string;
  readonly address: string;
  readonly address6: string;
}

/** Address ranges and names of the lab of this index: no two indices share one. */
export function planNetworks(index: number, names: readonly NetworkName[] = NETWORK_NAMES): NetworkPlan[] {
  return names.map((name, position) => ({
    name,
    bridge: `vtlab${index}-${position}`,
    machineAddress: `${prefix4(index, position)}.1`,
    machineAddress6: `${prefix6(index, position)}::1`,
    ranges: [`${prefix4(index, position)}.0/24`, `${prefix6(index, position)}::/64`],
  }));
}

/** The interfaces of the host at this position of the lab, one for each network. */
export function planInterfaces(
  index: number,
  host: number,
  networks: readonly NetworkPlan[],
): InterfacePlan[] {
  return networks.map((network, position) => ({
    network: network.name,
    bridge: network.bridge,
    name: `eth${position}`,
    peer: `vtl${index}h${host}e${position}`,
    address: `${prefix4(index, position)}.${FIRST_HOST + host}`,
    address6: `${prefix6(index, position)}::${FIRST_HOST + host}`,
  }));
}

/** A route or address of the machine as `ip -json` prints it: `dst` or `local` with a prefix length. */
export interface UsedRange {
  readonly address: string;
  readonly prefixLength: number;
  readonly family: 'ipv4' | 'ipv6';
}

/** The lowest index that no other lab has and whose ranges the machine does not use; throws `lab.no_network`. */
export function chooseIndex(taken: ReadonlySet<number>, used: readonly UsedRange[]): number {
  for (let index = 0; index < LABS; index++) {
    if (!taken.has(index) && !rangesInUse(index, used)) return index;
  }
  throw new TrustError(
    'lab.no_network',
    'conflict',
    `cannot find a network for the lab: 10.213.0.0/16 has none of ${LABS} blocks left`,
    { hint: 'see `ip route` and `virt-trust lab status`' },
  );
}

/** Whether the machine has a route or address in the ranges of this index, the default routes aside. */
export function rangesInUse(index: number, used: readonly UsedRange[]): boolean {
  const ours = new BlockList();
  for (let position = 0; position < NETWORKS_PER_LAB; position++) {
    ours.addSubnet(`${prefix4(index, position)}.0`, 24, 'ipv4');
    ours.addSubnet(`${prefix6(index, position)}::`, 64, 'ipv6');
  }
  return used.some((range) => {
    if (range.prefixLength === 0) return false;
    if (ours.check(range.address, range.family)) return true;
    const theirs = new BlockList();
    theirs.addSubnet(range.address, range.prefixLength, range.family);
    return Array.from({ length: NETWORKS_PER_LAB }, (_, position) =>
      range.family === 'ipv4' ? `${prefix4(index, position)}.0` : `${prefix6(index, position)}::`,
    ).some((start) => theirs.check(start, range.family));
  });
}

function prefix4(index: number, position: number): string {
  return `10.213.${index * NETWORKS_PER_LAB + position}`;
}

// RFC 4193 §3.2.1: fd00::/8 with a global identifier drawn once, the same for all labs.
function prefix6(index: number, position: number): string {
  return `fd8a:5c31:d07e:${(index * NETWORKS_PER_LAB + position + 1).toString(16)}`;
}
