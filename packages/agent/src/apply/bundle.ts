import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import {
  type Certificate,
  encodeCertificatesPem,
  parseCertificate,
  parseCertificates,
} from '@virt-trust/pki/certificate.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { decodePem } from '@virt-trust/pki/pem.ts';

const AUTHORITY_LIMIT = 16;
const SIZE_LIMIT = 64 * 1024;

/** A CA file as it goes to disk, and what did not go into it. */
export interface MergedBundle {
  readonly pem: string;
  readonly certificates: readonly Certificate[];
  /** Why found CA certificates were left out, one clause each. */
  readonly leftOut: readonly string[];
}

/**
 * Our authority's certificates, then those found that are valid now and not among ours already. libvirt refuses a
 * CA file with an expired certificate, more than 16, or more than 64 KiB; throws `bundle.too_large`.
 */
export function mergeBundle(ours: string, found: readonly string[], at: Instant): MergedBundle {
  const certificates = new Map<string, Certificate>();
  const leftOut: string[] = [];
  const add = (certificate: Certificate) =>
    certificates.set(Buffer.from(certificate.der).toString('base64'), certificate);
  for (const certificate of parseCertificates(ours)) add(certificate);
  for (const block of found.flatMap((text) => decodePem(text))) {
    const judged = judge(block.bytes, at);
    if (judged.kind === 'good') add(judged.certificate);
    else leftOut.push(judged.reason);
  }
  const pem = encodeCertificatesPem([...certificates.values()]);
  if (certificates.size > AUTHORITY_LIMIT || pem.length > SIZE_LIMIT) {
    throw new TrustError(
      'bundle.too_large',
      'conflict',
      `cannot trust the CAs that were found beside ours: ${certificates.size} certificates of ${pem.length} bytes are more than libvirt reads (${AUTHORITY_LIMIT}, ${SIZE_LIMIT})`,
      { hint: 'take CA certificates that are no longer needed out of the CA file that was found' },
    );
  }
  return { pem, certificates: [...certificates.values()], leftOut };
}

type Judged =
  | { readonly kind: 'good'; readonly certificate: Certificate }
  | { readonly kind: 'bad'; readonly reason: string };

function judge(der: Uint8Array, at: Instant): Judged {
  let certificate: Certificate;
  try {
    certificate = parseCertificate(der);
  } catch (error) {
    return { kind: 'bad', reason: describeError(error) };
  }
  const name = formatName(certificate.subject);
  // SECURITY: a leaf in a found CA file would become a trust anchor of ours.
  if (certificate.extensions.basicConstraints?.ca !== true)
    return { kind: 'bad', reason: `${name} is no authority` };
  if (certificate.notAfter < at) return { kind: 'bad', reason: `${name} has expired` };
  if (certificate.notBefore > at) return { kind: 'bad', reason: `${name} is not valid yet` };
  return { kind: 'good', certificate };
}
