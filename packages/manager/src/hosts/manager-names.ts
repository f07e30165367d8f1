import { isIP } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import type { Clock } from '@virt-trust/base/clock.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import type { DeclaredHost } from '../issuance/declared-names.ts';
import type { Host } from './host.ts';

/** How long what the kernel said of the machine's addresses is taken for true. */
const FRESH_MS = MINUTE;

const NONE: SubjectAltNames = { dns: [], addresses: [] };

export type ManagerNames = (host: Pick<DeclaredHost, 'names'>) => SubjectAltNames;

/**
 * The same while a host is being declared. SECURITY: that it runs on the manager's machine was decided when it was added,
 * and is told neither from what it reports nor from where its channel goes: a port that is forwarded on the manager's
 * machine leads to any other.
 */
export function managerNamesFor(names: ManagerNames): (host: Pick<Host, 'word'>) => SubjectAltNames {
  return ({ word }) => {
    if (word.onManager !== undefined) return word.onManager ? NONE : names({ names: NONE });
    // Added before that was written down: what was accepted then is the manager's.
    const said = Object.values(word.interfaces).flatMap(({ addresses }) => addresses);
    return names({ names: { dns: [], addresses: [...word.accepted, ...word.outside.addresses, ...said] } });
  };
}

/** Whether a host that an administrator adds, with its channel there, runs on the manager's machine. */
export function isOnManager(names: ManagerNames): (channel: Host['channel']) => boolean {
  return ({ address }) => {
    if (address === 'localhost' || /^(?:127\.|::1$)/.test(address)) return true;
    const own = names({ names: NONE });
    return isIP(address) === 0
      ? own.dns.includes(address.toLowerCase())
      : own.addresses.includes(canonicalIpAddress(address));
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
