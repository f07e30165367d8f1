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
