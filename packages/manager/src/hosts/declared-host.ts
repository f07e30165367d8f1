import { TrustError } from '@virt-trust/base/error.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import type { DeclaredHost } from '../issuance/declared-names.ts';
import { credentialNames } from './desired-state.ts';
import type { Host } from './host.ts';

/** What issuance may certify for a host; null where there is none, or it is only observed or being removed. */
export function declaredHostOf(host: Host | null): DeclaredHost | null {
  if (host === null || host.observeOnly || host.state === 'removing') return null;
  const services = SERVICES.map((service) => [service, credentialNames(host, service)] as const);
  return {
    name: host.name,
    cluster: host.cluster,
    names: host.declared.names,
    services: Object.fromEntries(services),
  };
}

/** The same for who asks for a certificate. Throws `issuance.host_not_managed` for a host that gets none as things are. */
export function declaredForIssuance(host: Host | null): DeclaredHost | null {
  const declared = declaredHostOf(host);
  if (declared !== null || host === null) return declared;
  const why = host.observeOnly ? 'it is only observed' : 'it is being removed';
  throw new TrustError(
    'issuance.host_not_managed',
    'denied',
    `cannot issue a certificate for host ${host.name}: ${why}`,
    {
      context: { rule: 'issuance.host_not_managed' },
      hint: `take it under management: virt-trust host add ${host.name} --ssh ${host.ssh.destination}`,
    },
  );
}
