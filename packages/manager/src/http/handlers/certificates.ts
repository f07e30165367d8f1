import { TrustError } from '@virt-trust/base/error.ts';
import type { RenewalPlan } from '@virt-trust/contract/model/certificate.ts';
import { parseSerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Authorities } from '../../authorities/authorities.ts';
import type { CertificateRecord, CertificateRepository } from '../../issuance/certificate-record.ts';
import { certificateView } from '../../issuance/certificate-view.ts';
import type { Issuance } from '../../issuance/issuance.ts';
import { pageOf, sequenceOf } from '../cursor.ts';
import type { Handlers } from '../handlers.ts';

/** Certificates: listed newest first with those that were only recorded, and issued for requests. */
export function certificateHandlers(parts: {
  readonly certificates: CertificateRepository;
  readonly authorities: Authorities;
  readonly issuance: Issuance;
  /** When a certificate that is served is renewed. */
  readonly renewalOf: (serialNumber: string) => Promise<RenewalPlan | null>;
}): Pick<Handlers, 'listCertificates' | 'getCertificate' | 'issueCertificate'> {
  const { certificates, authorities, issuance } = parts;
  const purposeOf = (authority: string) => authorities.byName(authority).purpose;
  const view = async (record: CertificateRecord) =>
    certificateView(record, purposeOf, await parts.renewalOf(record.serialNumber));
  return {
    listCertificates: async ({ query }) => {
      await issuance.settled();
      const { items, next } = await pageOf(
        query,
        (before, limit) =>
          certificates.list({ before: sequenceOf(before) ?? null, host: query?.host ?? null, limit }),
        ({ sequence }) => String(sequence),
        (record) => record,
      );
      return { items: await Promise.all(items.map(view)), next };
    },
    getCertificate: async ({ params }) => {
      // Whoever got a certificate finds it issued.
      await issuance.settled();
      const record = await certificates.find(parseSerialNumber(params.serial));
      if (record !== null) return view(record);
      throw new TrustError(
        'certificate.unknown',
        'not-found',
        `cannot find a certificate with serial number ${params.serial}`,
        { hint: 'see them with: virt-trust certificate list' },
      );
    },
    issueCertificate: async ({ body, actor }) => {
      const { serialNumber, pem } = await issuance.issueForHost({ ...body, actor: actor.auditName });
      return { serialNumber, pem };
    },
  };
}
