import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import type { CheckerRules } from './checker.ts';
import type { GnutlsCertificate } from './gnutls/certificate.ts';

/** The file of a set that a finding is about. */
export type SetPart = 'ca' | 'crl' | 'certificate' | 'key' | 'dh-params';

/** Something that libvirt or QEMU finds in certificates; an error keeps the daemon or VM from starting. */
export interface Finding {
  readonly severity: 'error' | 'warning' | 'note';
  /** `area.condition`, stable. */
  readonly code: string;
  /** A whole clause that names the file's role or the certificate. */
  readonly message: string;
  readonly part: SetPart;
}

/** Which end of TLS a certificate is for. */
export type TlsRole = 'server' | 'client';

/** What a certificate is called in findings, and the file that it is from. */
export interface Called {
  readonly what: string;
  readonly part: SetPart;
}

/** Times (virNetTLSCertCheckTimes). */
export function checkTimes(
  certificate: Pick<GnutlsCertificate, 'notBefore' | 'notAfter'>,
  { what, part }: Called,
  at: Instant,
): Finding[] {
  if (certificate.notAfter < at) {
    const message = `${what} expired at ${formatInstant(certificate.notAfter)}`;
    return [{ severity: 'error', code: 'certificate.expired', message, part }];
  }
  if (certificate.notBefore > at) {
    const message = `${what} is valid from ${formatInstant(certificate.notBefore)} only`;
    return [{ severity: 'error', code: 'certificate.not_yet_valid', message, part }];
  }
  return [];
}

/** basicConstraints and keyUsage of an authority (virNetTLSCertCheckBasicConstraints, ...CheckKeyUsage). */
export function checkAuthorityUse(certificate: GnutlsCertificate, { what, part }: Called): Finding[] {
  const { basicConstraints, keyUsage } = certificate.extensions;
  const findings = unreadable(certificate, [OID.basicConstraints, OID.keyUsage], { what, part });
  if (basicConstraints?.ca !== true) {
    const message = `${what} has no basicConstraints that show an authority`;
    findings.push({ severity: 'error', code: 'certificate.not_authority', message, part });
  }
  if (keyUsage !== undefined && !keyUsage.usages.includes('keyCertSign')) {
    findings.push(usage(keyUsage.critical, 'certificate.key_usage', { what, part }, 'certificate signing'));
  }
  return findings;
}

/** basicConstraints, keyUsage and extKeyUsage of a server's or client's certificate. */
export function checkLeafUse(
  certificate: GnutlsCertificate,
  { what, part }: Called,
  role: TlsRole,
  { keyEnciphermentFor, bothEnds }: CheckerRules,
): Finding[] {
  const { basicConstraints, keyUsage, extKeyUsage } = certificate.extensions;
  const called = { what, part };
  const findings = unreadable(certificate, [OID.basicConstraints, OID.keyUsage, OID.extKeyUsage], called);
  if (basicConstraints?.ca === true) {
    const message = `${what} is an authority's, not a ${role}'s`;
    findings.push({ severity: 'error', code: 'certificate.is_authority', message, part });
  }
  if (keyUsage !== undefined) {
    const { critical, usages } = keyUsage;
    if (!usages.includes('digitalSignature')) {
      findings.push(usage(critical, 'certificate.key_usage', called, 'digital signature'));
    }
    const exempt =
      keyEnciphermentFor === 'none' || (keyEnciphermentFor === 'all-but-ec' && isEc(certificate));
    if (!usages.includes('keyEncipherment') && !exempt) {
      const older = keyEnciphermentFor === 'all-in-older-releases';
      const finding = usage(critical && !older, 'certificate.key_encipherment', called, 'key encipherment');
      const message = `${finding.message}, which older releases of this series refuse`;
      // RFC 5480 §3: an EC key must not have it, and where keyUsage is not critical nothing refuses it.
      const right = `${finding.message}, which is right for an EC key; that is logged at start and nothing more`;
      if (!critical && isEc(certificate)) findings.push({ ...finding, severity: 'note', message: right });
      else findings.push(critical && older ? { ...finding, message } : finding);
    }
  }
  if (extKeyUsage !== undefined && !permits(extKeyUsage.purposes, role, bothEnds)) {
    findings.push(usage(extKeyUsage.critical, 'certificate.purpose', called, `use as a TLS ${role}`));
  }
  return findings;
}

const TLS_PURPOSES: readonly string[] = [OID.serverAuth, OID.clientAuth, OID.anyExtendedKeyUsage];

/**
 * As libvirt reads purposes, any that is neither of TLS's two nor anyExtendedKeyUsage allows both ends, while
 * anyExtendedKeyUsage allows none; QEMU reads them as they are meant.
 */
function permits(purposes: readonly string[], role: TlsRole, bothEnds: CheckerRules['bothEnds']): boolean {
  const own: string = role === 'server' ? OID.serverAuth : OID.clientAuth;
  return purposes.some(
    (oid) =>
      oid === own ||
      (bothEnds === 'any-purpose' ? oid === OID.anyExtendedKeyUsage : !TLS_PURPOSES.includes(oid)),
  );
}

function isEc({ publicKey }: GnutlsCertificate): boolean {
  return publicKey.algorithm.kind === 'known' && publicKey.algorithm.value.family === 'ec';
}

function unreadable(
  { malformedExtensions }: GnutlsCertificate,
  oids: readonly string[],
  { what, part }: Called,
): Finding[] {
  return malformedExtensions
    .filter((oid) => oids.includes(oid))
    .map((oid) => ({
      severity: 'error',
      code: 'certificate.extension_malformed',
      message: `${what} has an extension ${oid} that cannot be read`,
      part,
    }));
}

function usage(critical: boolean, code: string, { what, part }: Called, missing: string): Finding {
  const message = `${what} does not permit ${missing}`;
  return { severity: critical ? 'error' : 'warning', code, message, part };
}
