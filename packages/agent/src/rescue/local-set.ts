import { type Instant, instant, parseInstant } from '@virt-trust/base/instant.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { checkOwnFiles } from '@virt-trust/libvirt/sanity.ts';
import { issueRootAuthority } from '@virt-trust/pki/authority-issue.ts';
import { type Certificate, encodeCertificatesPem, parseCertificate } from '@virt-trust/pki/certificate.ts';
import {
  prepareCertificate,
  prepareIssuer,
  prepareTemplate,
  signCertificate,
} from '@virt-trust/pki/certificate-issue.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { encodePrivateKeyPem, generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { encodeName, nameAttribute } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { LEAF_PROFILES } from '@virt-trust/pki/profiles.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';

/** The set that a service would serve, as far as time matters. */
export interface TimedSet {
  readonly certificates: readonly Certificate[];
  readonly authorities: readonly Certificate[];
}

/** What has to be done so that a service's readers take its set at this time. */
export type Remedy =
  | { readonly kind: 'none' }
  /** The CA file without those whose time is over, which would block all. */
  | { readonly kind: 'trim'; readonly reason: string; readonly authorities: readonly Certificate[] }
  /** A set that the host makes itself, beside the CAs whose time is right. */
  | { readonly kind: 'replace'; readonly reason: string; readonly authorities: readonly Certificate[] };

/** From the epoch on, because a host whose clock was lost begins there. */
const BEGIN = instant(0);
/** Long after whoever reads this. */
const END = parseInstant('2099-12-31T23:59:59Z');

/**
 * What a service needs at this time. libvirt and QEMU refuse a set for one certificate in it whose time is not now;
 * `startsAnyway` tells of readers that do not look.
 */
export function remedyFor(service: Service, set: TimedSet, at: Instant, startsAnyway: boolean): Remedy {
  const { certificates, authorities } = set;
  const [leaf] = certificates;
  if (leaf === undefined) return { kind: 'none' };
  const right = authorities.filter((one) => isTimeOf(one, at));
  if (right.length === authorities.length && isTimeOf(leaf, at)) return { kind: 'none' };
  const trimmed = { certificates, authorities: right };
  if (right.length > 0 && passes(service, trimmed, at)) {
    const gone = authorities.length - right.length;
    return {
      kind: 'trim',
      reason: `${gone} of ${authorities.length} CA certificates are out of their time`,
      authorities: right,
    };
  }
  if (startsAnyway) return { kind: 'none' };
  const reason = isTimeOf(leaf, at)
    ? 'its authorities are out of their time'
    : leaf.notBefore > at
      ? 'its certificate is not valid yet by the clock of the host'
      : 'its certificate has expired';
  return { kind: 'replace', reason, authorities: right };
}

/** Whether the strictest libvirt and QEMU take a set as their own. */
export function passes(service: Service, { certificates, authorities }: TimedSet, at: Instant): boolean {
  const checker =
    service === 'libvirt'
      ? ({ program: 'libvirt', version: '9.0.0' } as const)
      : ({ program: 'qemu', version: '7.2.0' } as const);
  const findings = checkOwnFiles({ role: 'server', caCertificates: authorities, certificates, at, checker });
  return findings.every(({ severity }) => severity !== 'error');
}

function isTimeOf({ notBefore, notAfter }: Certificate, at: Instant): boolean {
  return notBefore <= at && at <= notAfter;
}

/**
 * A set for the names that a service had, under an authority made for it alone. Nobody trusts it: it lets programs
 * start, and takes no client.
 */
export async function makeLocalSet(
  service: 'libvirt' | 'vnc',
  former: Certificate,
  authorities: readonly Certificate[],
  randomness: Randomness,
): Promise<{ readonly bundle: string; readonly certificate: string; readonly key: string }> {
  const commonName = nameAttribute(former.subject, OID.commonName) ?? 'host';
  const organization = nameAttribute(former.subject, OID.organizationName) ?? 'virt-trust';
  const validity = { notBefore: BEGIN, notAfter: END };
  // SECURITY: the authority's key is held by nothing beyond this function: what trusts it can never be cheated by it.
  const authorityKey = await generatePrivateKey('ecdsa-p256-sha256');
  const authority = parseCertificate(
    issueRootAuthority(
      {
        serialNumber: newSerialNumber(randomness),
        subject: encodeName({ organization, commonName: `${commonName} rescue`.slice(0, 64) }),
        nameConstraints: undefined,
        ...validity,
      },
      authorityKey,
    ),
  );
  const issuer = prepareIssuer({ certificate: authority, key: authorityKey });
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const known = (former.extensions.subjectAltName?.names ?? []).filter(
    ({ kind }) => kind === 'dns' || kind === 'ip',
  );
  const prepared = prepareCertificate(
    prepareTemplate(issuer, LEAF_PROFILES[service === 'vnc' ? 'vnc-server' : 'libvirt-server']),
    {
      serialNumber: newSerialNumber(randomness),
      commonName,
      names: known.length > 0 ? known : [{ kind: 'dns', value: 'localhost' }],
      publicKey: spkiOfKey(key),
      ...validity,
    },
  );
  return {
    bundle: encodeCertificatesPem([authority, ...authorities].slice(0, 16)),
    certificate: encodePem('CERTIFICATE', signCertificate(prepared, issuer)),
    key: encodePrivateKeyPem(key),
  };
}
