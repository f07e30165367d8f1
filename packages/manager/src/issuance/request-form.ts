import { TrustError } from '@virt-trust/base/error.ts';
import { decodePem } from '@virt-trust/pki/pem.ts';
import { type CertificationRequest, parseCertificationRequest } from '@virt-trust/pki/request.ts';

const LABELS: readonly string[] = ['CERTIFICATE REQUEST', 'NEW CERTIFICATE REQUEST'];

/** The one certification request of a PEM text (RFC 7468 §7); throws `issuance.request_malformed`, `pem.*`, `der.*`. */
export function parseRequestPem(csr: string): CertificationRequest {
  const [block, more] = decodePem(csr, { maxCharacters: 65_536, maxBlocks: 4 });
  if (block === undefined || more !== undefined || !LABELS.includes(block.label)) {
    throw new TrustError(
      'issuance.request_malformed',
      'invalid',
      'cannot read the certification request: not one PEM block CERTIFICATE REQUEST',
      { hint: 'Give the request alone, from -----BEGIN CERTIFICATE REQUEST----- to -----END.' },
    );
  }
  return parseCertificationRequest(block.bytes);
}
