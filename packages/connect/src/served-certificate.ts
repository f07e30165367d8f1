import type { Instant } from '@virt-trust/base/instant.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { formatGeneralName } from '@virt-trust/pki/general-name.ts';
import { formatName } from '@virt-trust/pki/name.ts';

/** What an endpoint was seen serving. */
export interface ServedCertificate {
  readonly der: Uint8Array;
  readonly pin: SpkiPin;
  readonly serialNumber: string;
  readonly subject: string;
  readonly issuer: string;
  /** Alternative names, as `DNS:a.example` or `IP:192.0.2.1`. */
  readonly names: readonly string[];
  readonly notBefore: Instant;
  readonly notAfter: Instant;
}

/** What of a certificate goes into evidence. */
export function describeServed(certificate: Certificate): ServedCertificate {
  const { der, pin, serialNumber, subject, issuer, extensions, notBefore, notAfter } = certificate;
  return {
    der,
    pin,
    serialNumber,
    subject: formatName(subject),
    issuer: formatName(issuer),
    names: (extensions.subjectAltName?.names ?? []).map(formatGeneralName),
    notBefore,
    notAfter,
  };
}
