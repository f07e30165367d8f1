import { isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { type Certificate, encodeCertificatesPem } from '@virt-trust/pki/certificate.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import {
  checkAuthorityUse,
  checkLeafUse,
  checkTimes,
  type Finding,
  type SetPart,
  type TlsRole,
} from './certificate-use.ts';
import { type Checker, type CheckerRules, rulesOf } from './checker.ts';
import { type GnutlsCertificate, isGnutlsIssuer, readGnutlsCertificate } from './gnutls/certificate.ts';
import { verifyAsGnutls } from './gnutls/verify.ts';

/**
 * The check that libvirt and QEMU apply to their own files at start and reload (virNetTLSCertSanityCheck,
 * qcrypto_tls_creds_x509_sanity_check). `certificates` are those of the certificate file, the leaf first. Without an
 * error among the findings they accept the set.
 */
export function checkOwnFiles(parts: {
  readonly role: TlsRole;
  readonly caCertificates: readonly Certificate[];
  readonly certificates: readonly Certificate[];
  readonly at: Instant;
  readonly checker: Checker;
}): Finding[] {
  const { role, caCertificates, certificates, at, checker } = parts;
  const rules = rulesOf(checker);
  const findings: Finding[] = [];
  const error = (code: string, part: SetPart, message: string) =>
    findings.push({ severity: 'error', code, message, part });
  if (certificates.length === 0)
    error('files.missing', 'certificate', `the ${role} certificate file holds no certificate`);
  if (caCertificates.length === 0) error('files.missing', 'ca', 'the CA file holds no certificate');
  for (const [file, part, held] of [
    ['CA', 'ca', caCertificates],
    [role, 'certificate', certificates],
  ] as const) {
    const length = encodeCertificatesPem(held).length;
    if (length > rules.fileLimit)
      error('files.too_large', part, `the ${file} file has ${length} bytes, more than ${rules.fileLimit}`);
  }
  const gnutls = ({ der }: Certificate) => readGnutlsCertificate(der);
  const authorities = caCertificates.map(gnutls);
  return [
    ...findings,
    ...checkCertificates({ role, authorities, certificates: certificates.map(gnutls), at, rules }),
  ];
}

/** The part of the check that is about certificates as they were read from the two files. */
export function checkCertificates(parts: {
  readonly role: TlsRole;
  readonly authorities: readonly GnutlsCertificate[];
  /** None where a client has none. */
  readonly certificates: readonly GnutlsCertificate[];
  readonly at: Instant;
  readonly rules: CheckerRules;
}): Finding[] {
  const { role, at, rules } = parts;
  const read = parts.authorities.slice(0, rules.authoritiesRead);
  const [leaf, ...behind] = parts.certificates;
  const findings: Finding[] = [];
  if (parts.authorities.length > read.length) {
    const rest = `the CA file holds ${parts.authorities.length} certificates; what stands behind the first ${read.length} is not checked at start`;
    findings.push({ severity: 'warning', code: 'files.too_many', message: rest, part: 'ca' });
  }
  const presented = rules.chainInCertificateFile ? behind : [];
  if (leaf !== undefined) {
    const called = {
      what: `the ${role} certificate ${formatName(leaf.subject)}`,
      part: 'certificate',
    } as const;
    findings.push(...checkTimes(leaf, called, at), ...checkLeafUse(leaf, called, role, rules));
  }
  for (const certificate of presented) {
    findings.push(...checkAuthority(certificate, 'certificate'));
  }
  let judged: readonly GnutlsCertificate[] = read;
  if (rules.authoritiesChecked === 'on-path') {
    const { path, broken } =
      leaf === undefined ? { path: [], broken: undefined } : authorityChain([leaf, ...presented], read);
    judged = path;
    if (broken !== undefined) findings.push(broken);
  }
  for (const authority of judged) findings.push(...checkAuthority(authority, 'ca'));
  if (leaf !== undefined && read.length > 0) findings.push(...checkPair([leaf, ...presented], read));
  return findings;

  function checkAuthority(certificate: GnutlsCertificate, part: SetPart): Finding[] {
    const called = { what: `the CA certificate ${formatName(certificate.subject)}`, part };
    return [...checkTimes(certificate, called, at), ...checkAuthorityUse(certificate, called)];
  }

  function checkPair(chain: readonly GnutlsCertificate[], trusted: readonly GnutlsCertificate[]): Finding[] {
    try {
      verifyAsGnutls({ chain, trusted, at, handshake: false });
      return [];
    } catch (caught) {
      if (!isTrustError(caught)) throw caught;
      const told = findings.some(({ code }) => code === caught.code.replace('chain.', 'certificate.'));
      if (told) return [];
      return [{ severity: 'error', code: caught.code, message: caught.message, part: 'certificate' }];
    }
  }
}

/** qcrypto_tls_creds_check_authority_chain of QEMU 10.2: the issuers up to one that signed itself. */
function authorityChain(
  chain: readonly GnutlsCertificate[],
  trusted: readonly GnutlsCertificate[],
): { readonly path: readonly GnutlsCertificate[]; readonly broken: Finding | undefined } {
  const broken = (certificate: GnutlsCertificate): Finding => ({
    severity: 'error',
    code: 'chain.issuer_unknown',
    message: `the certificate ${formatName(certificate.subject)} has no issuer up to a root`,
    part: 'ca',
  });
  for (const [index, certificate] of chain.slice(0, -1).entries()) {
    const next = chain[index + 1];
    if (next !== undefined && !isGnutlsIssuer(certificate, next))
      return { path: [], broken: broken(certificate) };
  }
  const path: GnutlsCertificate[] = [];
  let current = chain[chain.length - 1];
  while (current !== undefined && path.length <= trusted.length) {
    if (isGnutlsIssuer(current, current))
      return { path: path.length === 0 ? [current] : path, broken: undefined };
    const last: GnutlsCertificate = current;
    current = trusted.find((each) => isGnutlsIssuer(last, each));
    if (current === undefined) return { path, broken: broken(last) };
    path.push(current);
  }
  return { path, broken: undefined };
}
