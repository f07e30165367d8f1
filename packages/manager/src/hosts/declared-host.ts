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
