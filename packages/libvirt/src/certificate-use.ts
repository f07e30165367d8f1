import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import type { CheckerRules } from './checker.ts';

/** Something that libvirt or QEMU finds in certificates; an error keeps the daemon or VM from starting. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  /** `area.condition`, stable. */
  readonly code: string;
  /** A whole clause that names the file's role or the certificate. */
  readonly message: string;
}

/** Which end of TLS a certificate is for. */
export type TlsRole = 'server' | 'client';

const TLS_PURPOSES: readonly string[] = [OID.serverAuth, OID.clientAuth, OID.anyExtendedKeyUsage];

/** Times (virNetTLSCertCheckTimes). */
export function checkTimes(certificate: Certificate, what: string, at: Instant): Finding[] {
  if (certificate.notAfter < at) {
    const message = `${what} expired at ${formatInstant(certificate.notAfter)}`;
    return [{ severity: 'error', code: 'certificate.expired', message }];
  }
  if (certificate.notBefore > at) {
    const message = `${what} is valid from ${formatInstant(certificate.notBefore)} only`;
    return [{ severity: 'error', code: 'certificate.not_yet_valid', message }];
  }
  return [];
}

/** basicConstraints and keyUsage of an authority (virNetTLSCertCheckBasicConstraints, ...CheckKeyUsage). */
export function checkAuthorityUse(certificate: Certificate, what: string): Finding[] {
  const { basicConstraints, keyUsage } = certificate.extensions;
  const findings: Finding[] = [];
  if (basicConstraints?.ca !== true) {
    const message = `${what} has no basicConstraints that show an authority`;
    findings.push({ severity: 'error', code: 'certificate.not_authority', message });
  }
  if (keyUsage !== undefined && !keyUsage.usages.includes('keyCertSign')) {
    findings.push(usage(keyUsage.critical, 'certificate.key_usage', what, 'certificate signing'));
  }
  return findings;
}

/** basicConstraints, keyUsage and extKeyUsage of a server's or client's certificate. */
export function checkLeafUse(
  certificate: Certificate,
  what: string,
  role: TlsRole,
  { keyEnciphermentFor }: CheckerRules,
): Finding[] {
  const { basicConstraints, keyUsage, extKeyUsage } = certificate.extensions;
  const findings: Finding[] = [];
  if (basicConstraints?.ca === true) {
    const message = `${what} is an authority's, not a ${role}'s`;
    findings.push({ severity: 'error', code: 'certificate.is_authority', message });
  }
  if (keyUsage !== undefined) {
    const { critical, usages } = keyUsage;
    if (!usages.includes('digitalSignature')) {
      findings.push(usage(critical, 'certificate.key_usage', what, 'digital signature'));
    }
    const exempt =
      keyEnciphermentFor === 'none' || (keyEnciphermentFor === 'all-but-ec' && isEc(certificate));
    if (!usages.includes('keyEncipherment') && !exempt) {
      findings.push(usage(critical, 'certificate.key_encipherment', what, 'key encipherment'));
    }
  }
  if (extKeyUsage !== undefined && !permits(extKeyUsage.purposes, role)) {
    findings.push(usage(extKeyUsage.critical, 'certificate.purpose', what, `use as a TLS ${role}`));
  }
  return findings;
}

/**
 * As libvirt and QEMU read it: any purpose that is neither of TLS's two nor anyExtendedKeyUsage allows both, while
 * anyExtendedKeyUsage allows none.
 */
function permits(purposes: readonly string[], role: TlsRole): boolean {
  const own: string = role === 'server' ? OID.serverAuth : OID.clientAuth;
  return purposes.some((oid) => oid === own || !TLS_PURPOSES.includes(oid));
}

function isEc({ publicKey }: Certificate): boolean {
  return publicKey.algorithm.kind === 'known' && publicKey.algorithm.value.family === 'ec';
}

function usage(critical: boolean, code: string, what: string, missing: string): Finding {
  const message = `${what} does not permit ${missing}`;
  return { severity: critical ? 'error' : 'warning', code, message };
}
