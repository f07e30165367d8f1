import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { type GnutlsCertificate, isGnutlsIssuer } from './certificate.ts';
import { whyNamesForbidden } from './name-constraints.ts';
import { isSecureAlgorithm, readGnutlsKey, verifyGnutlsSignature } from './signature.ts';
import { isStrongEnough } from './strength.ts';

/** What GnuTLS verifies; the chain's own certificate first, its issuers behind. */
export interface GnutlsQuestion {
  readonly chain: readonly GnutlsCertificate[];
  readonly trusted: readonly GnutlsCertificate[];
  readonly at: Instant;
  /** Whether it is a peer in a handshake, where the priority string NORMAL demands strength of keys. */
  readonly handshake: boolean;
}

/** DEFAULT_MAX_VERIFY_DEPTH. */
const MAX_CHAIN = 16;

/**
 * Verifies a chain as GnuTLS does (gnutls_x509_trust_list_verify_crt2, _gnutls_verify_crt_status in lib/x509/verify.c):
 * every trusted certificate is an anchor; of several issuers of one name the last that is valid counts and no other is
 * tried. Returns the path, the leaf first, the anchor last; throws `chain.*`. CRLs are not looked at.
 */
export function verifyAsGnutls(question: GnutlsQuestion): readonly GnutlsCertificate[] {
  const { trusted, at, handshake } = question;
  const chain = shorten(sort(question.chain), trusted);
  const [leaf] = chain;
  if (leaf === undefined)
    throw new TrustError('chain.missing', 'failed', 'cannot trust the chain: it is empty');
  const known = trusted.findLast((each) => Buffer.compare(each.der, leaf.der) === 0);
  if (known !== undefined) {
    refuseAtTime(known, at);
    return [leaf];
  }
  let maxPath = Number.POSITIVE_INFINITY;
  const constrainers: GnutlsCertificate[] = [];
  let features: readonly number[] = [];
  let anchor: GnutlsCertificate | undefined;
  for (let index = chain.length - 1; index >= 0; index--) {
    const certificate = chain[index] as GnutlsCertificate;
    const issuer =
      index === chain.length - 1
        ? findIssuer(certificate, trusted, at)
        : (chain[index + 1] as GnutlsCertificate);
    if (index === chain.length - 1) anchor = issuer;
    if (maxPath <= 0) throw fail('path_too_long', issuer, 'its path length allows no authority below it');
    maxPath--;
    if (!isGnutlsIssuer(certificate, issuer)) throw unknownIssuer(certificate);
    constrainers.push(issuer);
    if (index === 0) refuseNames(certificate, constrainers);
    if (issuer.tlsFeatures.length > 0) features = [...features, ...issuer.tlsFeatures];
    if (features.some((feature) => !certificate.tlsFeatures.includes(feature))) {
      throw fail('name_forbidden', certificate, 'it lacks TLS features of its issuer');
    }
    maxPath = Math.min(maxPath, refuseAsAuthority(issuer, certificate, index === chain.length - 1));
    refuseSignature(certificate, issuer);
    refuseUnknownExtensions(issuer);
    if (index === 0) refuseUnknownExtensions(certificate);
    if (handshake) {
      for (const each of [issuer, certificate]) {
        if (!isStrongEnough(each.spki)) throw fail('insecure_algorithm', each, 'its key is too short');
      }
    }
    refuseAtTime(issuer, at);
    refuseAtTime(certificate, at);
  }
  return anchor === undefined ? chain : [...chain, anchor];
}

/** _gnutls_sort_clist: from the leaf from issuer to issuer, as far as they lead. */
function sort(list: readonly GnutlsCertificate[]): readonly GnutlsCertificate[] {
  if (list.length <= 1 || list.length > MAX_CHAIN) return list;
  const sorted = list.slice(0, 1);
  for (;;) {
    const last = sorted[sorted.length - 1] as GnutlsCertificate;
    const next = list.slice(1).find((each) => each !== last && isGnutlsIssuer(last, each));
    if (next === undefined || sorted.includes(next)) return sorted;
    sorted.push(next);
  }
}

/** Without a root that came along, and without what stands behind a certificate that is trusted by itself. */
function shorten(
  chain: readonly GnutlsCertificate[],
  trusted: readonly GnutlsCertificate[],
): readonly GnutlsCertificate[] {
  const last = chain[chain.length - 1];
  const own =
    chain.length > 1 && last !== undefined && isGnutlsIssuer(last, last) ? chain.slice(0, -1) : chain;
  const known = own.findIndex(
    (certificate, index) => index > 0 && trusted.some((each) => isSameKey(each, certificate)),
  );
  return known < 0 ? own : own.slice(0, known);
}

/** Same name and same key (_gnutls_check_if_same_key). */
function isSameKey(left: GnutlsCertificate, right: GnutlsCertificate): boolean {
  return (
    Buffer.compare(left.subject.der, right.subject.der) === 0 && Buffer.compare(left.spki, right.spki) === 0
  );
}

/** find_issuer: the first by name and key identifier, or the last such that is valid now. */
function findIssuer(
  certificate: GnutlsCertificate,
  trusted: readonly GnutlsCertificate[],
  at: Instant,
): GnutlsCertificate {
  const candidates = trusted.filter((each) => isGnutlsIssuer(certificate, each));
  const valid = candidates.slice(1).findLast((each) => at < each.notAfter && at >= each.notBefore);
  const issuer = valid ?? candidates[0];
  if (issuer === undefined) throw unknownIssuer(certificate);
  return issuer;
}

function unknownIssuer(certificate: GnutlsCertificate): TrustError {
  return fail(
    'issuer_unknown',
    certificate,
    `no certificate of its issuer is trusted: ${formatName(certificate.issuer) || 'no name'}`,
  );
}

function refuseNames(certificate: GnutlsCertificate, constrainers: readonly GnutlsCertificate[]): void {
  const purposes = certificate.extensions.extKeyUsage?.purposes;
  const isForServers =
    purposes === undefined || purposes.includes(OID.serverAuth) || purposes.includes(OID.anyExtendedKeyUsage);
  for (const issuer of constrainers) {
    const why = whyNamesForbidden(issuer, certificate, isForServers);
    if (why !== undefined) throw fail('name_forbidden', issuer, why);
  }
}

/** check_if_ca and the use of the key; returns how many authorities may stand below. */
function refuseAsAuthority(
  issuer: GnutlsCertificate,
  certificate: GnutlsCertificate,
  isAnchor: boolean,
): number {
  // A root of version 1 says nothing of authorities, and GnuTLS asks none as long as it is the anchor.
  if (isAnchor && issuer.version === 1) return Number.POSITIVE_INFINITY;
  const same = Buffer.compare(issuer.der, certificate.der) === 0;
  const { basicConstraints, keyUsage } = issuer.extensions;
  const missing =
    basicConstraints === undefined && !issuer.malformedExtensions.includes(OID.basicConstraints);
  const likeVersion1 = missing && isAnchor && isGnutlsIssuer(issuer, issuer);
  if (!same && basicConstraints?.ca !== true && !likeVersion1) {
    throw fail('issuer_not_authority', issuer, 'it is no authority');
  }
  if (issuer.malformedExtensions.includes(OID.keyUsage)) {
    throw fail('issuer_not_authority', issuer, 'its keyUsage cannot be read');
  }
  if (keyUsage !== undefined && !keyUsage.usages.includes('keyCertSign')) {
    throw fail('issuer_not_authority', issuer, 'its keyUsage does not permit certificate signing');
  }
  return basicConstraints?.pathLenConstraint ?? Number.POSITIVE_INFINITY;
}

function refuseSignature(certificate: GnutlsCertificate, issuer: GnutlsCertificate): void {
  const verdict = verifyGnutlsSignature(certificate, issuer.spki);
  if (verdict === 'good') return;
  // What signs itself may be signed weakly, though not wrongly.
  if (verdict === 'insecure' && isGnutlsIssuer(certificate, certificate)) return;
  if (verdict === 'insecure' || !(isSecureAlgorithm(certificate.signatureAlgorithm) || verdict === 'wrong')) {
    throw fail('insecure_algorithm', certificate, 'it is signed with an algorithm that GnuTLS does not take');
  }
  const why =
    readGnutlsKey(issuer.spki) === undefined
      ? 'its issuer’s key is of a kind that GnuTLS does not know'
      : 'its signature is not its issuer’s';
  throw fail('signature_wrong', certificate, why);
}

function refuseUnknownExtensions(certificate: GnutlsCertificate): void {
  const [unknown] = certificate.extensions.unknownCritical;
  if (unknown === undefined) return;
  throw fail(
    'extension_unknown',
    certificate,
    `it has the critical extension ${unknown}, which is not known`,
  );
}

function refuseAtTime(certificate: GnutlsCertificate, at: Instant): void {
  if (at > certificate.notAfter) {
    throw fail('expired', certificate, `it expired at ${formatInstant(certificate.notAfter)}`, at);
  }
  if (at < certificate.notBefore) {
    throw fail(
      'not_yet_valid',
      certificate,
      `it is valid from ${formatInstant(certificate.notBefore)} only`,
      at,
    );
  }
}

function fail(condition: string, certificate: GnutlsCertificate, reason: string, at?: Instant): TrustError {
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
