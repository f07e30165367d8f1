import { TrustError } from '@virt-trust/base/error.ts';
import type { ConsoleType } from '@virt-trust/contract/model/console.ts';
import type { FoundTlsFile } from '@virt-trust/contract/model/inventory.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import type { Host } from '../hosts/host.ts';

/** What a display of a VM proves itself with: a certificate of ours, or what was on the host before. */
export type ServedCertificate =
  /** One that is not current is from the VM's start. */
  | { readonly kind: 'ours'; readonly serialNumber: string; readonly isCurrent: boolean }
  | { readonly kind: 'found'; readonly hostSubject: string; readonly ca: string };

/**
 * Which certificate a display serves, from what the host's agent saw. Throws `console.certificate_unknown` where
 * nothing is known by which a client could tell the server from another.
 */
export function servedCertificate(host: Host, vm: string, type: ConsoleType): ServedCertificate {
  const credential = host.observed?.credentials.find(({ service }) => service === type);
  const seen = host.observed?.served.find((one) => one.service === type && one.vm === vm)?.servedPin ?? null;
  const pin = seen ?? credential?.pin ?? null;
  const files = (host.inventory?.tlsFiles ?? []).filter((file) => file.service === type);
  const file = files.find(
    ({ role, certificate }) => role === 'server-certificate' && (pin === null || certificate?.pin === pin),
  );
  if (credential?.identity === 'ours' && credential.serialNumber !== null) {
    const isCurrent = pin === credential.pin;
    // A former one of ours is in no file any more; one that is in a file was found on the host.
    if (isCurrent || file === undefined)
      return { kind: 'ours', serialNumber: credential.serialNumber, isCurrent };
  }
  const ca = files.find(({ role }) => role === 'ca')?.pem ?? null;
  const subject = file?.pem == null ? undefined : subjectOf(file.pem);
  if (subject !== undefined && ca !== null) return { kind: 'found', hostSubject: subject, ca };
  throw new TrustError(
    'console.certificate_unknown',
    'conflict',
    `cannot open a console of VM ${vm}: no certificate of ${type} is known on host ${host.name}`,
    { hint: `bring it right first: virt-trust host provision ${host.name}` },
  );
}

/** The subject as spice-gtk compares it: first RDN first, attributes by their short names, commas escaped. */
function subjectOf(pem: FoundTlsFile['pem'] & string): string | undefined {
  const [leaf] = parseCertificates(pem, 'tolerant');
  return leaf?.subject.rdns
    .flat()
    .map(({ type, value }) => `${SHORT[type] ?? type}=${value.replace(/[\\,]/g, '\\$&')}`)
    .join(',');
}

/** As OpenSSL names them, by which spice-gtk looks them up. */
const SHORT: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '1.2.840.113549.1.9.1': 'emailAddress',
};
