import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { findSignatureAlgorithm } from './algorithms.ts';
import {
  type Certificate,
  type KnownParts,
  parseTbsCertificate,
  type TbsCertificate,
} from './certificate.ts';
import { OID } from './der/oid.ts';
import { formatGeneralName, isDnsName } from './general-name.ts';
import { isIpAddress } from './ip-address.ts';
import { nameAttribute, namesEqual } from './name.ts';
import { constrainedNames, findForbiddenName } from './name-constraints.ts';
import type { AuthorityProfile, LeafProfile } from './profiles.ts';

/** What lint has to say about a certificate that is not signed yet. */
export interface LintFinding {
  readonly severity: 'error' | 'warning';
  readonly code: string;
  /** The clause that asks for it. */
  readonly clause: string;
  readonly message: string;
}

/** What the certificate is meant to be. */
export type LintSubject =
  | { readonly kind: 'leaf'; readonly profile: LeafProfile; readonly issuer: Certificate }
  | { readonly kind: 'issuing'; readonly profile: AuthorityProfile; readonly issuer: Certificate }
  | { readonly kind: 'root'; readonly profile: AuthorityProfile };

type Report = (
  severity: LintFinding['severity'],
  code: string,
  clause: string,
  message: string | (() => string),
) => void;

/** Times that RFC 5280 §4.1.2.5 cannot write to the millisecond are cut, so compare what was written. */
function wholeSecond(at: Instant): number {
  return Math.floor(at / 1000);
}

function lintCommon(tbs: TbsCertificate, report: Report): void {
  const { extensions, serialNumber } = tbs;
  if (/^0*$/.test(serialNumber))
    report('error', 'serial_zero', 'RFC 5280 §4.1.2.2', 'the serial number is zero');
  if (serialNumber.length < 32) {
    report('error', 'serial_short', 'profile', 'the serial number has fewer than 128 bits');
  }
  if (tbs.subject.rdns.length === 0) {
    report('error', 'subject_empty', 'RFC 5280 §4.1.2.6', 'the subject is empty');
  }
  if (tbs.issuer.rdns.length === 0)
    report('error', 'issuer_empty', 'RFC 5280 §4.1.2.4', 'the issuer is empty');
  const commonName = nameAttribute(tbs.subject, OID.commonName) ?? '';
  if (commonName === '') report('error', 'common_name_missing', 'profile', 'the subject has no common name');
  if (commonName.length > 64 && [...commonName].length > 64) {
    report(
      'error',
      'common_name_long',
      'RFC 5280 appendix A.1',
      'the common name is longer than 64 characters',
    );
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f]/.test(commonName)) {
    report('error', 'common_name_control', 'profile', 'the common name has control characters');
  }
  if (wholeSecond(tbs.notAfter) < wholeSecond(tbs.notBefore)) {
    report('error', 'validity_reversed', 'RFC 5280 §4.1.2.5', 'it ends before it begins');
  }
  if (tbs.publicKey.algorithm.kind === 'refused') {
    report('error', 'key_refused', 'RFC 5280 §4.1.2.7', tbs.publicKey.algorithm.reason);
  }
  if (findSignatureAlgorithm(tbs.signatureAlgorithm) === undefined) {
    report('error', 'signature_algorithm', 'RFC 5280 §4.1.2.3', 'the signature algorithm is not accepted');
  }
  if (extensions.subjectKeyIdentifier === undefined) {
    report('error', 'ski_missing', 'RFC 5280 §4.2.1.2', 'no subjectKeyIdentifier');
  }
  if (
    extensions.subjectKeyIdentifier?.critical === true ||
    extensions.authorityKeyIdentifier?.critical === true
  ) {
    report('error', 'key_identifier_critical', 'RFC 5280 §4.2.1.1', 'a key identifier is critical');
  }
  if (extensions.unknownCritical.length > 0) {
    report('error', 'unknown_critical', 'RFC 5280 §4.2', 'a critical extension that nobody will know');
  }
}

function lintIssuer(tbs: TbsCertificate, issuer: Certificate, report: Report): void {
  if (!namesEqual(tbs.issuer, issuer.subject)) {
    report('error', 'issuer_name', 'RFC 5280 §6.1.3', 'the issuer is not the subject of the authority');
  }
  const { keyUsage, basicConstraints, nameConstraints, subjectKeyIdentifier } = issuer.extensions;
  if (basicConstraints?.ca !== true) {
    report('error', 'issuer_not_authority', 'RFC 5280 §4.2.1.9', 'the issuer is not an authority');
  }
  if (keyUsage !== undefined && !keyUsage.usages.includes('keyCertSign')) {
    report('error', 'issuer_key_usage', 'RFC 5280 §4.2.1.3', 'the issuer may not sign certificates');
  }
  const authority = tbs.extensions.authorityKeyIdentifier?.keyIdentifier;
  if (authority === undefined) {
    report('error', 'aki_missing', 'RFC 5280 §4.2.1.1', 'no authorityKeyIdentifier');
  } else if (
    subjectKeyIdentifier !== undefined &&
    Buffer.compare(authority, subjectKeyIdentifier.keyIdentifier) !== 0
  ) {
    report('error', 'aki_mismatch', 'RFC 5280 §4.2.1.1', 'the authorityKeyIdentifier is not the issuer’s');
  }
  if (
    wholeSecond(tbs.notBefore) < wholeSecond(issuer.notBefore) ||
    wholeSecond(tbs.notAfter) > wholeSecond(issuer.notAfter)
  ) {
    report('error', 'validity_outside_issuer', 'RFC 5280 §6.1.3', () => {
      const own = `${formatInstant(tbs.notBefore)} to ${formatInstant(tbs.notAfter)}`;
      return `${own} is not inside the authority’s ${formatInstant(issuer.notBefore)} to ${formatInstant(issuer.notAfter)}`;
    });
  }
  if (nameConstraints !== undefined) {
    const names = constrainedNames(tbs.subject, tbs.extensions.subjectAltName?.names ?? []);
    const forbidden = findForbiddenName(nameConstraints, names);
    if (forbidden !== undefined) {
      report('error', 'name_constraints', 'RFC 5280 §4.2.1.10', () => {
        return `${formatGeneralName(forbidden)} is outside the authority’s name constraints`;
      });
    }
  }
}

function lintLeaf(tbs: TbsCertificate, profile: LeafProfile, issuer: Certificate, report: Report): void {
  const { basicConstraints, keyUsage, extKeyUsage, subjectAltName, nameConstraints } = tbs.extensions;
  if (basicConstraints === undefined || basicConstraints.ca) {
    report('error', 'leaf_is_authority', 'libvirt sanity check', 'an end certificate must say CA:FALSE');
  }
  if (nameConstraints !== undefined) {
    report(
      'error',
      'name_constraints_in_leaf',
      'RFC 5280 §4.2.1.10',
      'name constraints in an end certificate',
    );
  }
  const usages = keyUsage?.usages ?? [];
  if (!usages.includes('digitalSignature')) {
    report('error', 'digital_signature_missing', 'RFC 8446 §4.4.2.2', 'keyUsage without digitalSignature');
  }
  if (usages.includes('keyCertSign') || usages.includes('cRLSign')) {
    report(
      'error',
      'leaf_signs',
      'RFC 5280 §4.2.1.9',
      'an end certificate must not sign certificates or CRLs',
    );
  }
  if (keyUsage?.critical === true && !usages.includes('keyEncipherment')) {
    const message = 'libvirt before 11.6 refuses a critical keyUsage without keyEncipherment';
    report('error', 'key_usage_critical', 'libvirt sanity check', message);
  }
  const algorithm = tbs.publicKey.algorithm;
  if (algorithm.kind === 'known' && !algorithm.value.keyEncipherment && usages.includes('keyEncipherment')) {
    report('error', 'key_encipherment_ec', 'RFC 5480 §3', 'keyEncipherment on a key that cannot decipher');
  }
  for (const purpose of profile.purposes) {
    if (!(extKeyUsage?.purposes ?? []).includes(OID[purpose])) {
      report('error', 'purpose_missing', 'RFC 5280 §4.2.1.12', `extKeyUsage without ${purpose}`);
    }
  }
  if ((extKeyUsage?.purposes.length ?? 0) > profile.purposes.length) {
    report('error', 'purpose_extra', 'profile', 'extKeyUsage with more than the profile allows');
  }
  const unchecked = tbs.extensions.oids.includes(OID.ocspNoCheck);
  if (unchecked !== (profile.statusCheck === 'none')) {
    const message = unchecked
      ? 'nobody would ask whether it was revoked'
      : 'a responder’s certificate needs id-pkix-ocsp-nocheck';
    report('error', 'ocsp_no_check', 'RFC 6960 §4.2.2.2.1', message);
  }
  for (const name of ['crlDistributionPoints', 'authorityInfoAccess'] as const) {
    if (tbs.extensions[name]?.critical !== true) continue;
    report('error', 'status_location_critical', 'RFC 5280 §4.2.1.13, §4.2.2.1', `${name} is critical`);
  }
  const names = subjectAltName?.names ?? [];
  if (profile.names === 'required' && !names.some((name) => name.kind === 'dns' || name.kind === 'ip')) {
    report('error', 'name_missing', 'RFC 9525 §3', 'a server certificate needs a DNS name or an address');
  }
  for (const name of names) {
    if (name.kind !== 'dns') continue;
    if (isIpAddress(name.value)) {
      report('error', 'address_as_dns', 'RFC 5280 §4.2.1.6', `address ${name.value} as a DNS name`);
    } else if (!isDnsName(name.value)) {
      report('error', 'dns_malformed', 'RFC 5280 §4.2.1.6', `${JSON.stringify(name.value)} is no host name`);
    }
  }
  const organization = nameAttribute(issuer.subject, OID.organizationName);
  if (nameAttribute(tbs.subject, OID.organizationName) !== organization) {
    const message = 'the organization is not that of the authority';
    report('warning', 'organization_differs', 'virt-pki-validate', message);
  }
}

function lintAuthority(tbs: TbsCertificate, profile: AuthorityProfile, report: Report): void {
  const { basicConstraints, keyUsage, nameConstraints } = tbs.extensions;
  if (basicConstraints?.ca !== true || !basicConstraints.critical) {
    report('error', 'basic_constraints', 'RFC 5280 §4.2.1.9', 'an authority needs critical basicConstraints');
  }
  if (basicConstraints?.pathLenConstraint !== profile.pathLenConstraint) {
    report('error', 'path_length', 'profile', `the path length is not ${profile.pathLenConstraint}`);
  }
  const usages = keyUsage?.usages ?? [];
  if (keyUsage?.critical !== true || !usages.includes('keyCertSign') || !usages.includes('cRLSign')) {
    const message = 'an authority needs critical keyUsage with keyCertSign and cRLSign';
    report('error', 'authority_key_usage', 'RFC 5280 §4.2.1.3', message);
  }
  if (nameConstraints !== undefined && !nameConstraints.critical) {
    report(
      'error',
      'name_constraints_not_critical',
      'RFC 5280 §4.2.1.10',
      'name constraints must be critical',
    );
  }
}

/** Lints the DER of a TBSCertificate as it would be signed, read again but for `known`; throws `der.malformed` where it is no certificate. */
export function lintCertificate(
  der: Uint8Array,
  subject: LintSubject,
  known: KnownParts = {},
): LintFinding[] {
  const tbs = parseTbsCertificate(der, known);
  const findings: LintFinding[] = [];
  const report: Report = (severity, code, clause, message) => {
    findings.push({ severity, code, clause, message: typeof message === 'string' ? message : message() });
  };
  lintCommon(tbs, report);
  switch (subject.kind) {
    case 'leaf':
      lintIssuer(tbs, subject.issuer, report);
      lintLeaf(tbs, subject.profile, subject.issuer, report);
      break;
    case 'issuing': {
      lintIssuer(tbs, subject.issuer, report);
      lintAuthority(tbs, subject.profile, report);
      const room = subject.issuer.extensions.basicConstraints?.pathLenConstraint;
      if (room !== undefined && room <= subject.profile.pathLenConstraint) {
        report(
          'error',
          'issuer_path_length',
          'RFC 5280 §4.2.1.9',
          'the issuer’s path length allows no such authority',
        );
      }
      break;
    }
    case 'root':
      lintAuthority(tbs, subject.profile, report);
      if (!namesEqual(tbs.issuer, tbs.subject)) {
        report('error', 'root_not_self_issued', 'RFC 5280 §3.2', 'issuer and subject of a root differ');
      }
      break;
  }
  return findings;
}

/** Throws `certificate.lint` with all findings where one is an error; returns the warnings. */
export function refuseErrors(findings: readonly LintFinding[], name: string): readonly LintFinding[] {
  const errors = findings.filter((finding) => finding.severity === 'error');
  if (errors.length > 0) {
    const reasons = errors.map((finding) => `${finding.message} (${finding.clause})`).join('; ');
    throw new TrustError('certificate.lint', 'invalid', `cannot issue certificate for ${name}: ${reasons}`, {
      context: { findings },
    });
  }
  return findings;
}
