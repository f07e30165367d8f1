import type { Authority as AuthorityView } from '@virt-trust/contract/model/authority.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { formatNameSubtree } from '@virt-trust/pki/name-constraints.ts';
import type { Authorities } from '../../authorities/authorities.ts';
import type { Authority } from '../../authorities/authority.ts';
import type { Handlers } from '../handlers.ts';

/** The authorities with what hosts trust of them. */
export function authorityHandlers(
  authorities: Authorities,
): Pick<Handlers, 'listAuthorities' | 'getAuthority'> {
  return {
    listAuthorities: async () => ({
      items: authorities.list().map((authority) => viewOf(authority, authorities)),
    }),
    getAuthority: async ({ params }) => viewOf(authorities.byName(params.name), authorities),
  };
}

function viewOf({ name, purpose, provider, issuing }: Authority, authorities: Authorities): AuthorityView {
  const permitted = issuing.extensions.nameConstraints?.permitted ?? [];
  const { algorithm } = issuing.publicKey;
  return {
    name,
    purpose,
    provider,
    subject: formatName(issuing.subject),
    keyAlgorithm: algorithm.kind === 'known' ? algorithm.value.name : 'unknown',
    notAfter: issuing.notAfter,
    constraints: {
      dns: permitted.filter(({ kind }) => kind === 'dns').map(formatNameSubtree),
      subnets: permitted.filter(({ kind }) => kind === 'ip').map(formatNameSubtree),
    },
    bundle: authorities.bundle(purpose),
  };
}
