import { createPrivateKey } from 'node:crypto';
import { parseCertificate } from '@virt-trust/pki/certificate.ts';
import {
  type CertificateTemplate,
  prepareIssuer,
  prepareTemplate,
} from '@virt-trust/pki/certificate-issue.ts';
import { issueCrl } from '@virt-trust/pki/crl-issue.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { nameAttribute } from '@virt-trust/pki/name.ts';
import { signBytesOnPool } from '@virt-trust/pki/signature.ts';
import type { AuthorityProvider } from './authority.ts';

/** Authorities whose keys this process holds. */
export const internalProvider: AuthorityProvider = {
  kind: 'internal',
  open(record) {
    const issuing = parseCertificate(record.issuingCertificate);
    const key = createPrivateKey({ key: Buffer.from(record.issuingKey), format: 'der', type: 'pkcs8' });
    const issuer = prepareIssuer({ certificate: issuing, key });
    const templates = new Map<string, { readonly key: string; readonly template: CertificateTemplate }>();
    return {
      name: record.name,
      purpose: record.purpose,
      provider: 'internal',
      organization: nameAttribute(issuing.subject, OID.organizationName) ?? '',
      root: parseCertificate(record.rootCertificate),
      issuing,
      template(profile, locations) {
        const key = JSON.stringify(locations ?? null);
        const known = templates.get(profile.name);
        if (known?.key === key) return known.template;
        const template = prepareTemplate(issuer, profile, locations);
        templates.set(profile.name, { key, template });
        return template;
      },
      sign: (prepared) => signBytesOnPool(prepared.tbs, issuer.signatureAlgorithm, key),
      signCrl: async (fields) => issueCrl(issuer, fields),
    };
  },
};
