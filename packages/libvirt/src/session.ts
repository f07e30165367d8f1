import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { formatGeneralName } from '@virt-trust/pki/general-name.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { checkLeafUse, checkTimes, type TlsRole } from './certificate-use.ts';
import { type Checker, rulesOf } from './checker.ts';
import { type GnutlsCertificate, readGnutlsCertificate } from './gnutls/certificate.ts';
import { type GnutlsCrl, revokingCrl } from './gnutls/crl.ts';
import { isHandshakeKey } from './gnutls/strength.ts';
import { verifyAsGnutls } from './gnutls/verify.ts';
import { matchesHostName } from './host-name.ts';

/** More certificates GnuTLS does not take from a peer (DEFAULT_MAX_VERIFY_DEPTH). */
const MAX_PRESENTED = 16;
/** RFC 6066 §8: the TLS feature of a certificate that must come with an OCSP answer (RFC 7633). */
const STATUS_REQUEST = 5;

/** A peer that passed the check. */
export interface VerifiedPeer {
  /** The peer's certificate first, the trusted authority last. */
  readonly path: readonly Certificate[];
  /** As `virt-pki-query-dn` prints it and DN lists match it. */
  readonly distinguishedName: string;
}

/**
 * The check of a peer's certificate in a handshake (virNetTLSContextValidCertificate, QEMU's
 * qcrypto_tls_session_check_certificate): chain, CRLs, times of all that was presented, DN list, host name, and with
 * libvirt the leaf's use. Throws `chain.*` or `peer.*`.
 */
export function verifyPeer(parts: {
  /** Which end the peer is. */
  readonly role: TlsRole;
  /** What the peer presented, its own certificate first. */
  readonly presented: readonly Certificate[];
  readonly trusted: readonly Certificate[];
  /** None where left out; a QEMU that is the client reads none. */
  readonly crls?: readonly GnutlsCrl[];
  readonly at: Instant;
  readonly checker: Checker;
  /** The name or address that the server must have, where we are its client. */
  readonly hostName?: string | undefined;
  /** `tls_allowed_dn_list`, where we are the server. */
  readonly allowedDistinguishedNames?: readonly string[] | undefined;
}): VerifiedPeer {
  const { role, trusted, at, checker, hostName, allowedDistinguishedNames, crls = [] } = parts;
  const rules = rulesOf(checker);
  const gnutls = ({ der }: Certificate) => readGnutlsCertificate(der);
  const presented = parts.presented.map(gnutls);
  const [leaf, ...others] = presented;
  if (leaf === undefined) throw refusal('certificate_missing', `the ${role} presented no certificate`);
  if (presented.length > MAX_PRESENTED)
    throw refusal('chain_too_long', `the ${role} presented more than ${MAX_PRESENTED} certificates`);
  const path = verifyAsGnutls({ chain: presented, trusted: trusted.map(gnutls), at, handshake: true });
  refuseRevoked(path, crls);
  const what = `the certificate ${formatName(leaf.subject)}`;
  const { keyUsage } = leaf.extensions;
  // GnuTLS demands it of whoever signs in the handshake, critical or not (_gnutls_check_key_usage_for_sig). A server with
  // an RSA key need not sign: what its client encrypts to it proves the key (RFC 5246 §7.4.7.1), which both sides offer.
  const isEncryptedTo =
    role === 'server' && isRsa(leaf) && keyUsage?.usages.includes('keyEncipherment') === true;
  if (keyUsage !== undefined && !keyUsage.usages.includes('digitalSignature') && !isEncryptedTo) {
    throw refusal('key_usage', `${what} does not permit digital signature`);
  }
  if (!isHandshakeKey(leaf.spki)) {
    throw refusal('key_curve', `${what} has a key on a curve that no handshake of GnuTLS uses`);
  }
  if (role === 'server' && leaf.tlsFeatures.includes(STATUS_REQUEST)) {
    throw refusal(
      'status_missing',
      `${what} demands an OCSP answer with it, which neither libvirt nor QEMU gives`,
    );
  }
  for (const certificate of others) {
    const called = {
      what: `the presented certificate ${formatName(certificate.subject)}`,
      part: 'certificate',
    } as const;
    const [finding] = checkTimes(certificate, called, at);
    if (finding !== undefined) throw refusal(finding.code.replace('certificate.', ''), finding.message);
  }
  const distinguishedName = formatDistinguishedName(leaf);
  if (leaf.subject.der.length <= 2) {
    // gnutls_x509_crt_get_dn has nothing to give, and both programs end there.
    throw refusal('subject_empty', `the ${role}'s certificate has an empty subject`);
  }
  const allowed = allowedDistinguishedNames;
  if (allowed !== undefined && !allowed.some((glob) => matchesGlob(glob, distinguishedName))) {
    throw refusal('dn_not_allowed', `${distinguishedName} is not on the list of allowed names`);
  }
  if (hostName !== undefined && !matchesHostName(leaf, hostName)) {
    const names = (leaf.extensions.subjectAltName?.names ?? []).map(formatGeneralName);
    const has = names.length > 0 ? names.join(', ') : formatName(leaf.subject);
    throw refusal('name_mismatch', `the certificate is for ${has}, not for ${hostName}`);
  }
  if (rules.checksPeerUsage) {
    const error = checkLeafUse(leaf, { what, part: 'certificate' }, role, rules).find(
      ({ severity }) => severity === 'error',
    );
    if (error !== undefined) throw refusal(error.code.replace('certificate.', ''), error.message);
  }
  return { path, distinguishedName };
}

function isRsa({ publicKey: { algorithm } }: GnutlsCertificate): boolean {
  return algorithm.kind === 'known' && algorithm.value.family === 'rsa';
}

/** The authority at the end of the path is trusted whatever CRLs say. */
function refuseRevoked(path: readonly GnutlsCertificate[], crls: readonly GnutlsCrl[]): void {
  const revocable = path.length > 1 ? path.slice(0, -1) : path;
  const revoked = revocable.find((certificate) => revokingCrl(certificate, crls) !== undefined);
  if (revoked === undefined) return;
  throw refusal(
    'revoked',
    `the certificate ${formatName(revoked.subject)} with serial number ${revoked.serial} is revoked`,
  );
}

/** The subject as GnuTLS prints it for DN lists: RFC 4514 text, but in the order of the certificate. */
export function formatDistinguishedName({ subject }: Pick<Certificate, 'subject'>): string {
  return formatName({ ...subject, rdns: [...subject.rdns].reverse() });
}

/** GLib's g_pattern_match_simple: `*` for any run of characters, `?` for one. */
export function matchesGlob(glob: string, text: string): boolean {
  const [pattern, subject] = [[...glob], [...text]];
  let [at, from, star, retry] = [0, 0, -1, 0];
  while (from < subject.length) {
    if (pattern[at] === '*') {
      star = at++;
      retry = from;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === subject[from])) {
      at++;
      from++;
    } else if (star >= 0) {
      at = star + 1;
      from = ++retry;
    } else return false;
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}

function refusal(condition: string, reason: string): TrustError {
  return new TrustError(`peer.${condition}`, 'failed', `cannot trust the peer: ${reason}`);
}
