import { isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { type Certificate, encodeCertificatesPem } from '@virt-trust/pki/certificate.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import {
  checkAuthorityUse,
  checkLeafUse,
  checkTimes,
  type Finding,
  type TlsRole,
} from './certificate-use.ts';
import { verifyChain } from './chain.ts';
import { type Checker, rulesOf } from './checker.ts';

/** What libvirt reads of a certificate file, and how many authorities. */
const FILE_LIMIT = 64 * 1024;
const AUTHORITY_LIMIT = 16;

/**
 * The check that libvirt and QEMU apply to their own files at start and reload (virNetTLSCertSanityCheck,
 * qcrypto_tls_creds_x509_sanity_check). `certificates` are those of the certificate file, the leaf first: libvirt
 * verifies only that one against the CA file. Without an error among the findings they accept the set.
 */
export function checkOwnFiles(parts: {
  readonly role: TlsRole;
  readonly caCertificates: readonly Certificate[];
  readonly certificates: readonly Certificate[];
  readonly at: Instant;
  readonly checker: Checker;
}): Finding[] {
  const { role, caCertificates, certificates, at, checker } = parts;
  const [leaf, ...intermediates] = certificates;
  const rules = rulesOf(checker);
  const findings: Finding[] = [];
  const error = (code: string, message: string) => findings.push({ severity: 'error', code, message });
  if (leaf === undefined) error('files.missing', `the ${role} certificate file holds no certificate`);
  if (caCertificates.length === 0) error('files.missing', 'the CA file holds no certificate');
  if (caCertificates.length > AUTHORITY_LIMIT) {
    error(
      'files.too_many',
      `the CA file holds ${caCertificates.length} certificates, more than ${AUTHORITY_LIMIT}`,
    );
  }
  for (const [file, held] of [
    ['CA', caCertificates],
    [role, certificates],
  ] as const) {
    const length = encodeCertificatesPem(held).length;
    if (length > FILE_LIMIT)
      error('files.too_large', `the ${file} file has ${length} bytes, more than ${FILE_LIMIT}`);
  }
  const path = leaf === undefined ? [] : verifyLeaf(leaf, checker.program === 'qemu' ? intermediates : []);
  const judged = rules.authoritiesChecked === 'all' ? caCertificates : path.slice(1);
  for (const authority of judged) {
    const what = `the CA certificate ${formatName(authority.subject)}`;
    findings.push(...checkTimes(authority, what, at), ...checkAuthorityUse(authority, what));
  }
  return findings;

  function verifyLeaf(certificate: Certificate, presented: readonly Certificate[]): readonly Certificate[] {
    const what = `the ${role} certificate ${formatName(certificate.subject)}`;
    const own = [...checkTimes(certificate, what, at), ...checkLeafUse(certificate, what, role, rules)];
    findings.push(...own);
    if (caCertificates.length === 0) return [];
    try {
      return verifyChain({ leaf: certificate, presented, trusted: caCertificates, at }).path;
    } catch (caught) {
      if (!isTrustError(caught)) throw caught;
      const told = findings.some(({ code }) => code === caught.code.replace('chain.', 'certificate.'));
      if (!told) error(caught.code, caught.message);
      return [];
    }
  }
}
