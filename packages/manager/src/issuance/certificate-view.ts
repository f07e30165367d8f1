import type { Certificate, RenewalPlan } from '@virt-trust/contract/model/certificate.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Purpose } from '@virt-trust/contract/model/service.ts';
import { parseTbsCertificate, type TbsCertificate } from '@virt-trust/pki/certificate.ts';
import { encodeSigned } from '@virt-trust/pki/extension-encode.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { CertificateRecord } from './certificate-record.ts';

/** The DNS names and addresses of a certificate's subjectAltName. */
export function namesIn({ extensions }: Pick<TbsCertificate, 'extensions'>): SubjectAltNames {
  const names = extensions.subjectAltName?.names ?? [];
  return {
    dns: names.flatMap((name) => (name.kind === 'dns' ? [name.value] : [])),
    addresses: names.flatMap((name) => (name.kind === 'ip' ? [name.value] : [])),
  };
}

/** A certificate as the API shows it, everything read from the bytes that were signed. */
export function certificateView(
  record: CertificateRecord,
  purposeOf: (authority: string) => Purpose,
  renewal: RenewalPlan | null = null,
): Certificate {
  const { holder, state } = record;
  const tbs = parseTbsCertificate(record.tbs);
  return {
    serialNumber: record.serialNumber,
    state: state.kind,
    authority: record.authority,
    purpose: purposeOf(record.authority),
    profile: record.profile,
    host: holder.kind === 'host' ? holder.host : null,
    service: holder.kind === 'host' ? holder.service : null,
    subject: formatName(tbs.subject),
    names: namesIn(tbs),
    issuedAt: record.issuedAt,
    notBefore: tbs.notBefore,
    notAfter: tbs.notAfter,
    pin: record.pin,
    revocation: record.revocation,
    renewal,
    pem:
      state.kind === 'issued'
        ? encodePem('CERTIFICATE', encodeSigned(record.tbs, tbs.signatureAlgorithm, state.signature))
        : null,
  };
}
