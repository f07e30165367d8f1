import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { formatGeneralName } from '@virt-trust/pki/general-name.ts';
import { formatName, namesEqual } from '@virt-trust/pki/name.ts';
import { constrainedNames, findForbiddenName } from '@virt-trust/pki/name-constraints.ts';
import { verifySignature } from '@virt-trust/pki/signature.ts';

const DEPTH_LIMIT = 16;
/** More signatures than any honest set needs; names can be made to have many candidates. */
const SIGNATURE_LIMIT = 64;

/** A certificate with all issuers up to one that is trusted, verified link by link. */
export interface VerifiedChain {
  /** The leaf first, the trusted authority last. */
  readonly path: readonly Certificate[];
}

interface Search {
  readonly presented: readonly Certificate[];
  readonly trusted: readonly Certificate[];
  readonly at: Instant;
  signatures: number;
  /** The failure that came furthest up, which says most. */
  failure: { readonly depth: number; readonly error: TrustError } | undefined;
}

/**
 * Verifies a chain as GnuTLS does for libvirt and QEMU (gnutls_x509_crt_list_verify): every certificate of the CA
 * file is an anchor, an intermediate one too; names, times, signatures, CA flag, keyCertSign, path length and name
 * constraints hold on each link, the anchor's included (RFC 5280 §6.1). CRLs are not looked at. Throws `chain.*`.
 */
export function verifyChain(parts: {
  readonly leaf: Certificate;
  /** Intermediates that came along with the leaf, in any order. */
  readonly presented: readonly Certificate[];
  readonly trusted: readonly Certificate[];
  readonly at: Instant;
}): VerifiedChain {
  const search: Search = { ...parts, signatures: 0, failure: undefined };
  refuseAtTime(parts.leaf, parts.at);
  refuseUnknownExtensions(parts.leaf);
  const path = extend(search, [parts.leaf]);
  if (path !== undefined) return { path };
  throw (
    search.failure?.error ?? fail('issuer_unknown', parts.leaf, 'no certificate of its issuer is trusted')
  );
}

function extend(search: Search, path: readonly Certificate[]): readonly Certificate[] | undefined {
  const last = path[path.length - 1] as Certificate;
  const isIssuer = (candidate: Certificate) => namesEqual(candidate.subject, last.issuer);
  const anchors = search.trusted.filter(isIssuer);
  for (const anchor of anchors) {
    if (links(search, path, anchor)) return [...path, anchor];
  }
  if (path.length >= DEPTH_LIMIT) return undefined;
  for (const candidate of search.presented.filter(isIssuer)) {
    if (path.some((certificate) => Buffer.compare(certificate.der, candidate.der) === 0)) continue;
    if (!links(search, path, candidate)) continue;
    const whole = extend(search, [...path, candidate]);
    if (whole !== undefined) return whole;
  }
  return undefined;
}

/** Whether `issuer` may stand above `path` and signed its last certificate; notes why not. */
function links(search: Search, path: readonly Certificate[], issuer: Certificate): boolean {
  try {
    refuseAtTime(issuer, search.at);
    refuseAsAuthority(issuer, path);
    const last = path[path.length - 1] as Certificate;
    if (++search.signatures > SIGNATURE_LIMIT)
      throw fail('too_complex', last, 'too many certificates have its issuer’s name');
    verifySignature(last.tbs, last, issuer.publicKey, `certificate ${formatName(last.subject)}`);
    return true;
  } catch (error) {
    if (!isTrustError(error)) throw error;
    if (search.failure === undefined || search.failure.depth <= path.length) {
      search.failure = { depth: path.length, error };
    }
    return false;
  }
}

function refuseAtTime(certificate: Certificate, at: Instant): void {
  if (certificate.notAfter < at) {
    throw fail('expired', certificate, `it expired at ${formatInstant(certificate.notAfter)}`, at);
  }
  if (certificate.notBefore > at) {
    throw fail(
      'not_yet_valid',
      certificate,
      `it is valid from ${formatInstant(certificate.notBefore)} only`,
      at,
    );
  }
}

function refuseUnknownExtensions(certificate: Certificate): void {
  const [unknown] = certificate.extensions.unknownCritical;
  if (unknown !== undefined) {
    throw fail(
      'extension_unknown',
      certificate,
      `it has the critical extension ${unknown}, which is not known`,
    );
  }
}

function refuseAsAuthority(issuer: Certificate, path: readonly Certificate[]): void {
  const { basicConstraints, keyUsage, nameConstraints } = issuer.extensions;
  refuseUnknownExtensions(issuer);
  if (basicConstraints?.ca !== true) throw fail('issuer_not_authority', issuer, 'it is no authority');
  if (keyUsage !== undefined && !keyUsage.usages.includes('keyCertSign')) {
    throw fail('issuer_not_authority', issuer, 'its keyUsage does not permit certificate signing');
  }
  // RFC 5280 §4.2.1.9: self-issued certificates do not count.
  const between = path.slice(1).filter(({ subject, issuer: own }) => !namesEqual(subject, own)).length;
  if (basicConstraints.pathLenConstraint !== undefined && between > basicConstraints.pathLenConstraint) {
    throw fail(
      'path_too_long',
      issuer,
      `it allows ${basicConstraints.pathLenConstraint} authorities below it`,
    );
  }
  if (nameConstraints === undefined) return;
  for (const [index, certificate] of path.entries()) {
    // RFC 5280 §4.2.1.10: not for self-issued certificates, but for the last one.
    if (index > 0 && namesEqual(certificate.subject, certificate.issuer)) continue;
    const names = constrainedNames(certificate.subject, certificate.extensions.subjectAltName?.names ?? []);
    const forbidden = findForbiddenName(nameConstraints, names);
    if (forbidden !== undefined) {
      throw fail(
        'name_forbidden',
        issuer,
        `its name constraints do not allow ${formatGeneralName(forbidden)}`,
      );
    }
  }
}

function fail(condition: string, certificate: Certificate, reason: string, at?: Instant): TrustError {
  const subject = formatName(certificate.subject);
  const now = at === undefined ? '' : ` (now ${formatInstant(at)})`;
  return new TrustError(
    `chain.${condition}`,
    'failed',
    `cannot trust certificate ${subject}: ${reason}${now}`,
    {
      context: { subject, serialNumber: certificate.serialNumber },
    },
  );
}
