import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { formatGeneralName } from '@virt-trust/pki/general-name.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { checkLeafUse, checkTimes, type TlsRole } from './certificate-use.ts';
import { verifyChain } from './chain.ts';
import { type Checker, rulesOf } from './checker.ts';
import { matchesHostName } from './host-name.ts';

/** libvirt keeps the DN in 256 bytes, its end included, and refuses a longer one. */
const DN_LIMIT = 255;

/** A peer that passed the check. */
export interface VerifiedPeer {
  /** The peer's certificate first, the trusted authority last. */
  readonly path: readonly Certificate[];
  /** As `virt-pki-query-dn` prints it and DN lists match it. */
  readonly distinguishedName: string;
}

/**
 * The check of a peer's certificate in a handshake (virNetTLSContextValidCertificate, QEMU's
 * qcrypto_tls_session_check_certificate): chain, times of all that was presented, DN list, host name, and with
 * libvirt the leaf's use. Throws `chain.*` or `peer.*`. CRLs are not looked at.
 */
export function verifyPeer(parts: {
  /** Which end the peer is. */
  readonly role: TlsRole;
  /** What the peer presented, its own certificate first. */
  readonly presented: readonly Certificate[];
  readonly trusted: readonly Certificate[];
  readonly at: Instant;
  readonly checker: Checker;
  /** The name or address that the server must have, where we are its client. */
  readonly hostName?: string | undefined;
  /** `tls_allowed_dn_list`, where we are the server. */
  readonly allowedDistinguishedNames?: readonly string[] | undefined;
}): VerifiedPeer {
  const { role, presented, trusted, at, checker, hostName, allowedDistinguishedNames } = parts;
  const [leaf, ...others] = presented;
  if (leaf === undefined) throw refusal('certificate_missing', `the ${role} presented no certificate`);
  const { path } = verifyChain({ leaf, presented: others, trusted, at });
  for (const certificate of others) {
    const what = `the presented certificate ${formatName(certificate.subject)}`;
    const [finding] = checkTimes(certificate, what, at);
    if (finding !== undefined) throw refusal(finding.code.replace('certificate.', ''), finding.message);
  }
  const distinguishedName = formatDistinguishedName(leaf);
  if (checker.program === 'libvirt' && Buffer.byteLength(distinguishedName) > DN_LIMIT) {
    throw refusal('dn_too_long', `the ${role}'s distinguished name is longer than ${DN_LIMIT} bytes`);
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
  if (rulesOf(checker).checksPeerUsage) {
    const what = `the certificate ${formatName(leaf.subject)}`;
    const error = checkLeafUse(leaf, what, role, rulesOf(checker)).find(
      ({ severity }) => severity === 'error',
    );
    if (error !== undefined) throw refusal(error.code.replace('certificate.', ''), error.message);
  }
  return { path, distinguishedName };
}

/** The subject as GnuTLS prints it for DN lists: RFC 4514 text, but in the order of the certificate. */
export function formatDistinguishedName({ subject }: Pick<Certificate, 'subject'>): string {
  return formatName({ ...subject, rdns: [...subject.rdns].reverse() });
}

/** GLib's g_pattern_match_simple: `*` for any run of characters, `?` for one. */
function matchesGlob(glob: string, text: string): boolean {
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
