import { hostname, networkInterfaces } from 'node:os';
import { readGnutlsCertificatePem } from '@virt-trust/libvirt/gnutls/certificate.ts';
import { matchesHostName } from '@virt-trust/libvirt/host-name.ts';
import { readFileState } from './reader.ts';
import type { CheckFinding } from './report.ts';

/** The host's own name, and its addresses that others reach. */
export function ownNames(): { readonly name: string; readonly addresses: readonly string[] } {
  const addresses = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(({ internal, address }) => !internal && !/^(?:fe80:|169\.254\.)/i.test(address))
    .map(({ address }) => address);
  return { name: hostname(), addresses };
}

/** Whether a server certificate has the host's name and addresses. */
export async function checkOwnNames(
  file: string,
  own: ReturnType<typeof ownNames> = ownNames(),
): Promise<CheckFinding[]> {
  const state = await readFileState(file);
  if (state.kind !== 'text') return [];
  let missing: string[];
  try {
    const certificate = readGnutlsCertificatePem(state.text);
    const short = own.name.split('.')[0] ?? own.name;
    const named = matchesHostName(certificate, own.name) || matchesHostName(certificate, short);
    const unnamed = own.addresses.filter((address) => !matchesHostName(certificate, address));
    missing = [...(named ? [] : [own.name]), ...unnamed];
    if (missing.length === 0) return [];
    // One way to reach the host is enough for those who know it.
    const reachable = named || unnamed.length < own.addresses.length;
    const which = missing.slice(0, 8).join(', ');
    return [
      {
        severity: reachable ? 'note' : 'warning',
        code: reachable ? 'names.some_missing' : 'names.none',
        file,
        text: reachable
          ? `clients that reach this host as ${which} refuse the certificate: it is not for that`
          : `the certificate is for no name or address of this host (${which}): clients refuse it`,
        remedy: `issue ${file} again with ${which} in subjectAltName`,
      },
    ];
  } catch {
    return [];
  }
}
