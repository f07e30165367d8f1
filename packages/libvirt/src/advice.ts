import { isTrustError } from '@virt-trust/base/error.ts';
import { DAY, formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { formatName, parseName } from '@virt-trust/pki/name.ts';
import type { Finding, TlsRole } from './certificate-use.ts';
import { type Checker, rulesOf } from './checker.ts';
import type { GnutlsCertificate } from './gnutls/certificate.ts';
import { type GnutlsCrl, revokingCrl } from './gnutls/crl.ts';
import { verifyGnutlsSignature } from './gnutls/signature.ts';
import type { JudgedSet } from './own-set.ts';
import { verifyPeer } from './session.ts';

/** Entries of a CRL beyond which starts, reloads and handshakes become slow. */
const CRL_ENTRIES = 1000;
const SOON = 30 * DAY;
/** A CRL is renewed well before it is due: less than this share of its time left is late. */
const LATE_SHARE = 0.1;

/** What nothing refuses and yet goes wrong later or elsewhere, in a set that its program loads. */
export function adviseOnSet(set: JudgedSet, role: TlsRole, checker: Checker, at: Instant): Finding[] {
  const findings: Finding[] = [];
  const warn = (code: string, part: Finding['part'], message: string) =>
    findings.push({ severity: 'warning', code, part, message });
  const [leaf] = set.certificates;
  for (const crl of set.crls) findings.push(...adviseOnCrl(crl, set.authorities, at));
  if (leaf !== undefined) {
    const name = formatName(leaf.subject);
    if (expiresSoon(leaf, at))
      warn(
        'certificate.expires_soon',
        'certificate',
        `the ${role} certificate ${name} expires at ${formatInstant(leaf.notAfter)}`,
      );
    const revoked = revokingCrl(leaf, set.crls) !== undefined;
    if (revoked)
      warn(
        'certificate.revoked',
        'certificate',
        `the ${role} certificate ${name} is revoked by the CRL beside it: it is loaded, and whoever has that CRL refuses it`,
      );
    if (role === 'server' && leaf.extensions.subjectAltName === undefined)
      warn(
        'certificate.no_names',
        'certificate',
        `the server certificate ${name} has no alternative names: clients go by its CN, and never reach it by address`,
      );
    if (!revoked) findings.push(...whatPeersSay(leaf, set, role, checker, at));
  }
  for (const authority of set.authorities.slice(0, rulesOf(checker).authoritiesRead)) {
    if (expiresSoon(authority, at))
      warn(
        'authority.expires_soon',
        'ca',
        `the CA certificate ${formatName(authority.subject)} expires at ${formatInstant(authority.notAfter)}`,
      );
  }
  return findings;
}

/** The end is near, and most of the way is gone: certificates that live for days are renewed within days. */
function expiresSoon({ notBefore, notAfter }: GnutlsCertificate, at: Instant): boolean {
  const left = notAfter - at;
  return left >= 0 && left < SOON && left < (notAfter - notBefore) / 3;
}

/** What a peer with the same trust would say of the certificate, which its own program does not ask. */
function whatPeersSay(
  leaf: GnutlsCertificate,
  set: JudgedSet,
  role: TlsRole,
  checker: Checker,
  at: Instant,
): Finding[] {
  try {
    verifyPeer({ role, presented: set.certificates, trusted: set.authorities, at, checker });
    return [];
  } catch (error) {
    if (!isTrustError(error)) throw error;
    const message = `peers refuse the certificate ${formatName(leaf.subject)}: ${error.message}`;
    return [{ severity: 'warning', code: 'certificate.refused_by_peers', part: 'certificate', message }];
  }
}

/** A CRL that is obeyed although it should not be, or that soon says nothing any more. */
export function adviseOnCrl(
  crl: GnutlsCrl,
  authorities: readonly GnutlsCertificate[],
  at: Instant,
): Finding[] {
  const findings: Finding[] = [];
  const warn = (code: string, message: string) =>
    findings.push({ severity: 'warning', code, part: 'crl', message });
  const whose = `the CRL of ${nameOf(crl.issuer)}`;
  const issuers = authorities.filter(({ subject }) => Buffer.compare(subject.der, crl.issuer) === 0);
  if (issuers.length === 0) {
    warn('crl.issuer_unknown', `${whose} is of no authority in the CA file: it revokes nothing here`);
  } else if (!issuers.some(({ spki }) => verifyGnutlsSignature(crl, spki) === 'good')) {
    warn('crl.signature', `${whose} was not signed by that authority, and it is obeyed all the same`);
  }
  if (crl.nextUpdate === undefined) {
    warn('crl.no_next_update', `${whose} does not say when the next one is due`);
  } else if (crl.nextUpdate < at) {
    warn(
      'crl.stale',
      `${whose} was to be replaced by ${formatInstant(crl.nextUpdate)}: it is obeyed, and what was revoked since is not known`,
    );
  } else if (crl.nextUpdate - at < (crl.nextUpdate - crl.thisUpdate) * LATE_SHARE) {
    warn('crl.due', `${whose} is to be replaced by ${formatInstant(crl.nextUpdate)}`);
  }
  if (crl.thisUpdate > at)
    warn('crl.future', `${whose} is from ${formatInstant(crl.thisUpdate)}, which is to come`);
  if (crl.serials.size > CRL_ENTRIES) {
    warn(
      'crl.size',
      `${whose} has ${crl.serials.size} entries: each start, reload and handshake reads them all; up to ${CRL_ENTRIES} is well`,
    );
  }
  return findings;
}

function nameOf(der: Uint8Array): string {
  try {
    return formatName(parseName(der)) || 'no name';
  } catch {
    return 'a name that cannot be read';
  }
}
