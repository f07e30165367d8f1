import { hostname, networkInterfaces } from 'node:os';
import type { Clock } from '@virt-trust/base/clock.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { DeclaredHost } from '../issuance/declared-names.ts';

/** How long what the kernel said of the machine's addresses is taken for true. */
const FRESH_MS = MINUTE;

const NONE: SubjectAltNames = { dns: [], addresses: [] };

/** Answers for a host the name and addresses of the manager's own machine, which no other host may have certified. */
export function managerNames(clock: Clock): (host: DeclaredHost) => SubjectAltNames {
  let names = NONE;
  let freshUntil = Number.NEGATIVE_INFINITY;
  return (host) => {
    const now = clock.now();
    if (now >= freshUntil) {
      names = { dns: [hostname().toLowerCase()], addresses: ownAddresses() };
      freshUntil = now + FRESH_MS;
    }
    // The manager may run on a host that it manages itself.
    return host.names.addresses.some((address) => names.addresses.includes(address)) ? NONE : names;
  };
}

function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter((one) => !one.internal && !one.address.startsWith('fe80'))
    .map((one) => one.address.split('%', 1)[0] ?? '');
}
