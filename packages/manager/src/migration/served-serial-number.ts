import type { Host } from '../hosts/host.ts';

/** The serial number of the certificate that a host said that it serves. */
export function servedSerialNumber(host: Host, service: 'libvirt' | 'migration'): string | null {
  return (
    host.observed?.credentials.find((credential) => credential.service === service)?.serialNumber ?? null
  );
}
