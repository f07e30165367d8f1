import type { AuthorityConstraints } from './authorities/internal-creation.ts';
import type { ComposeDomain } from './core.ts';
import { hostsDomain } from './hosts-domain.ts';
import { secretsDomain } from './secrets-domain.ts';

/** The parts of the manager besides its core, in the order in which they start. */
export function domainsOf(constraints: AuthorityConstraints): readonly ComposeDomain[] {
  return [hostsDomain(constraints), secretsDomain];
}
