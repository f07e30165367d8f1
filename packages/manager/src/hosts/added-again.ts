import type { Host } from './host.ts';

type Kept = Pick<Host, 'grantedGates' | 'desiredNumber' | 'revisions' | 'revoked' | 'tlsOff'>;

/**
 * What stays of a host that is added once more. SECURITY: one that was revoked stays so until it is provisioned by name,
 * or it would be taken for secured with the certificates that were revoked.
 */
export function keptOf(known: Host | null): Kept {
  const { grantedGates = [], desiredNumber = 0, revisions = {}, revoked, tlsOff } = known ?? {};
  return {
    grantedGates,
    desiredNumber,
    revisions,
    ...(revoked === undefined ? {} : { revoked }),
    ...(tlsOff === undefined ? {} : { tlsOff }),
  };
}
