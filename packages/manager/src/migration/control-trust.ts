import type { Host } from '../hosts/host.ts';
import type { CertificateSource } from '../hosts/ports.ts';

/**
 * Whom a source trusts as the libvirt of a destination: the control authority, and what was found there while its own
 * certificate is served.
 */
export async function controlTrustOf(
  to: Host,
  certificates: Pick<CertificateSource, 'bundle'>,
): Promise<string> {
  const servesFound =
    to.observed?.credentials.some(
      (credential) => credential.service === 'libvirt' && credential.identity === 'found',
    ) === true;
  const found = (to.inventory?.tlsFiles ?? []).filter(
    (file) => file.role === 'ca' && file.service === 'libvirt' && !file.ours && file.pem !== null,
  );
  return [await certificates.bundle('control'), ...(servesFound ? found.map(({ pem }) => pem) : [])].join(
    '\n',
  );
}
