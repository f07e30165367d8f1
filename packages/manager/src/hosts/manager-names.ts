import { isIP } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import type { Clock } from '@virt-trust/base/clock.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { DeclaredHost } from '../issuance/declared-names.ts';
import type { Host } from './host.ts';

/** How long what the kernel said of the machine's addresses is taken for true. */
const FRESH_MS = MINUTE;

const NONE: SubjectAltNames = { dns: [], addresses: [] };

export type ManagerNames = (host: Pick<DeclaredHost, 'names'>) => SubjectAltNames;

/**
 * The same while a host is being declared. SECURITY: that it runs on the manager's machine is told from where an
 * administrator said it is and from what was accepted of it, never from what it reports now.
 */
export function managerNamesFor(
  names: ManagerNames,
): (host: Pick<Host, 'channel' | 'word'>) => SubjectAltNames {
  return ({ channel, word }) => {
    if (channel.address === 'localhost' || /^(?:127\.|::1$)/.test(channel.address)) return NONE;
    const said = Object.values(word.interfaces).flatMap(({ addresses }) => addresses);
    const addresses = [...word.accepted, ...word.outside.addresses, ...said];
    if (isIP(channel.address) !== 0) addresses.push(channel.address);
    const own = names({ names: { dns: [], addresses } });
    return own.dns.includes(channel.address.toLowerCase()) ? NONE : own;
  };
}

/** Answers for a host the name and addresses of the manager's own machine, which no other host may have certified. */
export function managerNames(clock: Clock): ManagerNames {
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
