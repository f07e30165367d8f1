import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Host } from './host.ts';

/**
 * The revisions by which the services get new keys. After a restore they begin at the epoch: a host makes nothing new for
 * a revision that it has, and may have had any that was made after the backup.
 */
export function raisedRevisions(
  host: Pick<Host, 'revisions'>,
  services: readonly Service[],
  epoch: number,
): Host['revisions'] {
  return Object.fromEntries(
    services.map((service) => [service, Math.max((host.revisions[service] ?? 0) + 1, epoch)]),
  );
}

/** Far above what any manager gets to: seconds since 1970, and one more for each time that something was asked for. */
const MOST = 1e12;

/**
 * A number that a host says it was given, or 0 where it can't have been. SECURITY: a host that was broken into would else
 * use up the numbers of what it is asked for, and could never be asked again, also once it is trustworthy.
 */
export function believable(number: number): number {
  return number <= MOST ? number : 0;
}
