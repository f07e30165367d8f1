import { claimKey } from './claim-key.ts';
import { interfacesOf } from './desired-state.ts';
import type { Host } from './host.ts';
import { reportOf } from './network-report.ts';

/**
 * The addresses at which the manager itself dials a host's services: those of its management that its kernel has. Other
 * interfaces may be on networks that are not routed to the manager. Behind address translation, where the host is reached
 * under an address that it does not have, that one alone.
 */
export function managementAddresses(host: Host): string[] {
  const declared = interfacesOf(host.declared, 'management').flatMap(({ names }) => names.addresses);
  const has = new Set(
    (reportOf(host)?.interfaces ?? []).flatMap(({ addresses }) =>
      addresses.map(({ address }) => claimKey(address)),
    ),
  );
  const dialled = claimKey(host.channel.address);
  const outside = host.word.outside.addresses.map(claimKey);
  if (outside.includes(dialled) && declared.includes(dialled) && !has.has(dialled)) return [dialled];
  const own = declared.filter((address) => has.has(claimKey(address)));
  return [...new Set(own.length > 0 ? own : declared)];
}
