import type { FoundTlsFile, Inventory } from '@virt-trust/contract/model/inventory.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import type { FoundFacts } from './host.ts';

/** What of a first inventory bears on adoption: identities, CAs and listeners that others may rely on. */
export function foundFactsOf(inventory: Inventory): FoundFacts {
  const theirs = inventory.tlsFiles.filter((file) => !file.ours);
  return {
    identities: SERVICES.filter((service) => hasIdentity(theirs, service)),
    authorities: SERVICES.filter((service) => has(theirs, service, 'ca')),
    tcpListening: inventory.libvirt?.tcpListening ?? false,
    vncTls: inventory.libvirt?.vncTls ?? false,
    vms: (inventory.libvirt?.definedVms ?? 0) + inventory.runningVms.length,
    allowedDns: (inventory.libvirt?.allowedDns ?? null) !== null,
  };
}

function hasIdentity(files: readonly FoundTlsFile[], service: Service): boolean {
  return (
    has(files, service, 'ca') &&
    has(files, service, 'server-certificate') &&
    has(files, service, 'server-key')
  );
}

function has(files: readonly FoundTlsFile[], service: Service, role: FoundTlsFile['role']): boolean {
  return files.some((file) => file.service === service && file.role === role);
}
