import { isIpAddress } from '@virt-trust/pki/ip-address.ts';
import { findForbiddenName } from '@virt-trust/pki/name-constraints.ts';
import type { Authorities } from './authorities.ts';

/**
 * Whether the authorities may certify a DNS name or address at all: where a name constraint of one of them leaves it out,
 * clients refuse every certificate that says it (RFC 5280 §4.2.1.10).
 */
export function certifiableBy(authorities: Pick<Authorities, 'list'>): (name: string) => boolean {
  const constraints = authorities.list().flatMap(({ issuing }) => issuing.extensions.nameConstraints ?? []);
  return (name) => {
    const asked = [{ kind: isIpAddress(name) ? ('ip' as const) : ('dns' as const), value: name }];
    return constraints.every((one) => findForbiddenName(one, asked) === undefined);
  };
}
