import { BlockList, isIP } from 'node:net';
import { interfacesOf } from '../hosts/desired-state.ts';
import { reportOf } from '../hosts/network-report.ts';
import type { MigrationEnd } from './migration-end.ts';

/**
 * Where a source is reached from the destination of a migration: an address of its migration interfaces, of the family
 * of the destination's and in its subnet where there is one; null where there is none.
 */
export function sourceAddressOf(from: MigrationEnd, destinationAddress: string): string | null {
  const family = isIP(destinationAddress);
  if (from.kind === 'unmanaged') return isIP(from.host.address) === family ? from.host.address : null;
  const { host } = from;
  const interfaces = interfacesOf(host.declared, 'migration');
  const declared = interfaces
    .flatMap(({ names }) => names.addresses)
    .filter((address) => isIP(address) === family);
  const near = new BlockList();
  for (const { name } of interfaces) {
    const reported = reportOf(host)?.interfaces.find((one) => one.name === name);
    for (const one of reported?.addresses ?? [])
      if (declared.includes(one.address) && inSubnet(one, destinationAddress))
        near.addAddress(one.address, one.family);
  }
  const kind = family === 6 ? 'ipv6' : 'ipv4';
  return declared.find((address) => near.check(address, kind)) ?? declared[0] ?? null;
}

function inSubnet(
  { address, prefixLength, family }: { address: string; prefixLength: number; family: 'ipv4' | 'ipv6' },
  other: string,
): boolean {
  const subnet = new BlockList();
  subnet.addSubnet(address, prefixLength, family);
  return subnet.check(other, family);
}
