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
    lookedAt: SERVICES,
  };
}

const FIRST_SERVICES: readonly Service[] = ['libvirt', 'migration', 'vnc', 'spice'];

/** Completes what was found on a host by what is there for services that were not known when it was looked at. */
export function withNewServices(found: FoundFacts, inventory: Inventory): FoundFacts {
  const { lookedAt = FIRST_SERVICES } = found;
  const isNew = (service: Service) => !lookedAt.includes(service);
  if (!SERVICES.some(isNew)) return found;
  const now = foundFactsOf(inventory);
  return {
    ...found,
    identities: [...found.identities, ...now.identities.filter(isNew)],
    authorities: [...found.authorities, ...now.authorities.filter(isNew)],
    lookedAt: SERVICES,
  };
}

function hasIdentity(files: readonly FoundTlsFile[], service: Service): boolean {
  const hasPair = (end: 'server' | 'client') =>
    has(files, service, `${end}-certificate`) && has(files, service, `${end}-key`);
  // QEMU is a client of the servers of its disks, which may be somebody else's and know this certificate alone.
  return has(files, service, 'ca') && (hasPair('server') || (service === 'nbd' && hasPair('client')));
}

function has(files: readonly FoundTlsFile[], service: Service, role: FoundTlsFile['role']): boolean {
  return files.some((file) => file.service === service && file.role === role);
}
