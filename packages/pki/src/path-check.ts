import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { type Certificate, isSelfIssued } from './certificate.ts';
import { OID } from './der/oid.ts';
import type { KeyPurpose } from './extensions.ts';
import { formatGeneralName, type HostName } from './general-name.ts';
import { findHostName } from './host-name-match.ts';
import { formatName } from './name.ts';
import { constrainedNames, findForbiddenName } from './name-constraints.ts';

/**
 * Whether certificates must keep what RFC 5280 asks of those who issue them: `strict`, or only what it asks of those
 * who verify: `tolerant`, for authorities that others made.
 */
export type Conformance = 'strict' | 'tolerant';

/** What a path is verified for. */
export interface PathDemands {
  readonly at: Instant;
  readonly purpose: KeyPurpose;
  readonly peerName: HostName | undefined;
  readonly conformance: Conformance;
}

/** How many comparisons of names with constraints a path may cost. */
const MAX_NAME_COMPARISONS = 100_000;

/** A refusal, with the certificate that is at fault. */
export function refusePath(
  code: string,
  certificate: Certificate,
  reason: string,
  hint?: string,
  context: object = {},
): TrustError {
  const subject = formatName(certificate.subject) || '(empty subject)';
  return new TrustError(`path.${code}`, 'invalid', `cannot trust certificate ${subject}: ${reason}`, {
    context: { subject, serialNumber: certificate.serialNumber, pin: certificate.pin, ...context },
    ...(hint === undefined ? {} : { hint }),
  });
}

function checkValidity(certificate: Certificate, at: Instant): void {
  const { notBefore, notAfter } = certificate;
  const context = {
    notBefore: formatInstant(notBefore),
    notAfter: formatInstant(notAfter),
    at: formatInstant(at),
  };
  if (at < notBefore) {
    const reason = `it is valid from ${context.notBefore}, and it is ${context.at}`;
    throw refusePath('not_yet_valid', certificate, reason, 'Compare the clocks of both machines.', context);
  }
  // RFC 5280 §4.1.2.5: the period includes the whole last second.
  if (at >= notAfter + 1000) {
    const reason = `it expired at ${context.notAfter}, and it is ${context.at}`;
    throw refusePath(
      'expired',
      certificate,
      reason,
      'Renew it, or compare the clocks of both machines.',
      context,
    );
  }
}

function checkKey(certificate: Certificate): void {
  const { algorithm } = certificate.publicKey;
  if (algorithm.kind === 'refused') throw refusePath('weak_key', certificate, algorithm.reason);
}

function checkCritical(certificate: Certificate): void {
  const [unknown] = certificate.extensions.unknownCritical;
  if (unknown === undefined) return;
  throw refusePath('unknown_critical', certificate, `critical extension ${unknown} is not known`);
}

function checkPurpose(certificate: Certificate, purpose: KeyPurpose): void {
  const purposes = certificate.extensions.extKeyUsage?.purposes;
  if (purposes === undefined || purposes.includes(OID[purpose]) || purposes.includes(OID.anyExtendedKeyUsage))
    return;
  throw refusePath('purpose', certificate, `its extKeyUsage does not allow ${purpose}`, undefined, {
    purposes,
  });
}

function checkLeaf(leaf: Certificate, demands: PathDemands): void {
  const { keyUsage, subjectAltName } = leaf.extensions;
  const usages = keyUsage?.usages;
  const usable =
    usages === undefined ||
    usages.includes('digitalSignature') ||
    (demands.purpose === 'serverAuth' && usages.includes('keyEncipherment'));
  if (!usable) throw refusePath('key_usage', leaf, 'its keyUsage does not allow TLS');
  const names = subjectAltName?.names ?? [];
  if (demands.peerName !== undefined && findHostName(names, demands.peerName) === undefined) {
    const found = names.map(formatGeneralName).join(', ') || 'none';
    const wanted = formatGeneralName(demands.peerName);
    const hint = 'Use a name that the certificate has, or issue one with this name.';
    throw refusePath('peer_name', leaf, `it is not for ${wanted}; its names: ${found}`, hint);
  }
}

function checkAuthority(authority: Certificate, below: readonly Certificate[]): void {
  const { basicConstraints, keyUsage } = authority.extensions;
  if (basicConstraints?.ca !== true)
    throw refusePath('not_authority', authority, 'it is not that of an authority');
  if (keyUsage !== undefined && !keyUsage.usages.includes('keyCertSign')) {
    throw refusePath('key_usage', authority, 'its keyUsage does not allow it to sign certificates');
  }
  // RFC 5280 §4.2.1.9: self-issued certificates and the last one do not count.
  const count = below.slice(0, -1).filter((certificate) => !isSelfIssued(certificate)).length;
  const { pathLenConstraint } = basicConstraints;
  if (pathLenConstraint !== undefined && count > pathLenConstraint) {
    const reason = `its path length is ${pathLenConstraint}, and ${count} authorities are below it`;
    throw refusePath('path_length', authority, reason);
  }
}

function checkNames(path: readonly Certificate[]): void {
  let comparisons = 0;
  for (const [index, certificate] of path.entries()) {
    const last = index === path.length - 1;
    // RFC 5280 §6.1.3 (b): not applied to self-issued certificates, unless to the last.
    if (index === 0 || (!last && isSelfIssued(certificate))) continue;
    const names = constrainedNames(certificate.subject, certificate.extensions.subjectAltName?.names ?? []);
    for (const above of path.slice(0, index)) {
      const constraints = above.extensions.nameConstraints;
      if (constraints === undefined) continue;
      comparisons += names.length * (constraints.permitted.length + constraints.excluded.length);
      // SECURITY: a certificate of many names below many constraints must not keep the verifier busy.
      if (comparisons > MAX_NAME_COMPARISONS) {
        throw refusePath('too_complex', certificate, 'too many names for too many name constraints');
      }
      const forbidden = findForbiddenName(constraints, names);
      if (forbidden === undefined) continue;
      const reason = `${formatGeneralName(forbidden)} is outside the name constraints of ${formatName(above.subject)}`;
      throw refusePath('name_constraints', certificate, reason);
    }
  }
}

function nonConformance(certificate: Certificate, role: 'anchor' | 'authority' | 'leaf'): string | undefined {
  const { serialNumber, extensions } = certificate;
  const { basicConstraints, keyUsage, authorityKeyIdentifier, subjectKeyIdentifier, nameConstraints } =
    extensions;
  const bad = (condition: boolean, clause: string, reason: string) =>
    condition ? `${reason} (RFC 5280 ${clause})` : undefined;
  const selfIssued = isSelfIssued(certificate);
  const common =
    bad(/^0*$/.test(serialNumber), '§4.1.2.2', 'serial number zero') ??
    bad(
      role !== 'anchor' && !selfIssued && authorityKeyIdentifier?.keyIdentifier === undefined,
      '§4.2.1.1',
      'no authority key identifier',
    ) ??
    bad(authorityKeyIdentifier?.critical === true, '§4.2.1.1', 'critical authority key identifier') ??
    bad(subjectKeyIdentifier?.critical === true, '§4.2.1.2', 'critical subject key identifier') ??
    bad(
      extensions.authorityInfoAccess?.critical === true,
      '§4.2.2.1',
      'critical authority information access',
    ) ??
    bad(certificate.issuer.rdns.length === 0, '§4.1.2.4', 'empty issuer') ??
    bad(
      certificate.subject.rdns.length === 0 && extensions.subjectAltName?.critical !== true,
      '§4.2.1.6',
      'empty subject without critical alternative names',
    );
  if (common !== undefined) return common;
  if (role === 'leaf') {
    return (
      bad(nameConstraints !== undefined, '§4.2.1.10', 'name constraints in an end certificate') ??
      bad(
        keyUsage?.usages.includes('keyCertSign') === true,
        '§4.2.1.9',
        'keyCertSign in an end certificate',
      ) ??
      bad(basicConstraints?.pathLenConstraint !== undefined, '§4.2.1.9', 'path length in an end certificate')
    );
  }
  const subtrees = [...(nameConstraints?.permitted ?? []), ...(nameConstraints?.excluded ?? [])];
  return (
    bad(basicConstraints?.critical !== true, '§4.2.1.9', 'basicConstraints not critical') ??
    bad(keyUsage === undefined, '§4.2.1.3', 'no keyUsage') ??
    bad(subjectKeyIdentifier === undefined, '§4.2.1.2', 'no subject key identifier') ??
    bad(
      subtrees.some((subtree) => subtree.kind === 'dns' && subtree.value.startsWith('.')),
      '§4.2.1.10',
      'name constraint with a leading period',
    )
  );
}

/** Checks a whole path, anchor first, its signatures already verified (RFC 5280 §6.1); throws `path.*`. */
export function checkPath(path: readonly Certificate[], demands: PathDemands): void {
  for (const [index, certificate] of path.entries()) {
    const last = index === path.length - 1;
    checkValidity(certificate, demands.at);
    checkKey(certificate);
    checkCritical(certificate);
    if (!last) checkAuthority(certificate, path.slice(index + 1));
    // libvirt's sanity check, where RFC 5280 says nothing.
    else if (certificate.extensions.basicConstraints?.ca === true) {
      throw refusePath('leaf_is_authority', certificate, 'it is that of an authority, not of one end of TLS');
    }
    checkPurpose(certificate, demands.purpose);
    if (demands.conformance === 'strict') {
      const reason = nonConformance(certificate, last ? 'leaf' : index === 0 ? 'anchor' : 'authority');
      if (reason !== undefined) throw refusePath('nonconforming', certificate, reason);
    }
  }
  checkNames(path);
  checkLeaf(path[path.length - 1] as Certificate, demands);
}
