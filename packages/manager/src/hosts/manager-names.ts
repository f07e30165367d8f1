import { hostname, networkInterfaces } from 'node:os';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { DeclaredHost } from '../issuance/declared-names.ts';

/** The name and addresses of the machine that the manager runs on, which no other host may have certified. */
export function managerNamesFor(host: DeclaredHost): SubjectAltNames {
  const addresses = Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter((one) => !one.internal && !one.address.startsWith('fe80'))
    .map((one) => one.address.split('%', 1)[0] ?? '');
  // The manager may run on a host that it manages itself.
  if (host.names.addresses.some((address) => addresses.includes(address))) return { dns: [], addresses: [] };
  return { dns: [hostname().toLowerCase()], addresses };
}
