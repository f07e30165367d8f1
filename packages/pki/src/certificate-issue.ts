import type { KeyObject } from 'node:crypto';
import type { Brand } from '@virt-trust/base/brand.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { KEY_ALGORITHMS, type KeyAlgorithm, type SignatureAlgorithm } from './algorithms.ts';
import type { Certificate } from './certificate.ts';
import { OID } from './der/oid.ts';
import { TAG } from './der/reader.ts';
import { element, sequence } from './der/writer.ts';
import { encodeCrlDistributionPoints, encodeOcspAccess, type StatusLocations } from './distribution-point.ts';
import {
  encodeAuthorityKeyIdentifier,
  encodeExtensionsField,
  encodeExtKeyUsage,
  encodeLeafBasicConstraints,
  encodeLeafKeyUsage,
  encodeOcspNoCheck,
  encodeSigned,
  encodeSubjectAltName,
  encodeSubjectKeyIdentifier,
} from './extension-encode.ts';
import { type KnownExtensions, knownExtensions } from './extensions.ts';
import type { GeneralName } from './general-name.ts';
import { algorithmOfKey, keyMatchesCertificate } from './key.ts';
import { type LintFinding, lintCertificate, refuseErrors } from './lint.ts';
import { encodeRdn, nameAttribute } from './name.ts';
import type { LeafProfile } from './profiles.ts';
import {
  acceptedKeyAlgorithm,
  keyIdentifier,
  type PublicKeyInfo,
  parsePublicKeyInfo,
} from './public-key-info.ts';
import { type SerialNumber, serialNumberOctets } from './serial-number.ts';
import { signBytes } from './signature.ts';
import { validityBetween } from './validity.ts';

/** An authority that can sign: its certificate and the key of it. */
export interface Issuer {
  readonly certificate: Certificate;
  readonly key: KeyObject;
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly keyIdentifier: Uint8Array;
}

/** What goes into one end certificate beside what the profile and the issuer give. */
export interface CertificateFields {
  readonly serialNumber: SerialNumber;
  readonly commonName: string;
  readonly names: readonly GeneralName[];
  readonly notBefore: Instant;
  readonly notAfter: Instant;
  /** DER of the SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array;
}

/** The parts of a certificate that are the same for all of one issuer and profile, encoded once. */
export interface CertificateTemplate {
  readonly issuer: Issuer;
  readonly profile: LeafProfile;
  /** Version. */
  readonly head: Uint8Array;
  /** Signature algorithm and issuer. */
  readonly middle: Uint8Array;
  /** The RDNs of the subject before the common name. */
  readonly subjectPrefix: Uint8Array;
  /** basicConstraints, keyUsage, extKeyUsage, authorityKeyIdentifier and where its status is, by what the key can do. */
  readonly extensions: { readonly signing: KnownExtensions; readonly deciphering: KnownExtensions };
}

/** A certificate that is encoded and linted and may be recorded, then signed. */
export interface PreparedCertificate {
  readonly tbs: Brand<Uint8Array, 'LintedTbs'>;
  readonly serialNumber: SerialNumber;
  /** Findings that refuse nothing. */
  readonly warnings: readonly LintFinding[];
}

/** The INTEGER 2 in `[0]`: version 3. */
export const VERSION_3: Uint8Array = Uint8Array.of(0xa0, 3, 2, 1, 2);

/** Joins certificate and key to an issuer; throws `issuer.key_mismatch`, `issuer.not_authority`, `key.refused`. */
export function prepareIssuer(parts: { readonly certificate: Certificate; readonly key: KeyObject }): Issuer {
  const { certificate, key } = parts;
  if (!keyMatchesCertificate(key, certificate)) {
    throw new TrustError(
      'issuer.key_mismatch',
      'invalid',
      'cannot issue: the private key is not that of the authority’s certificate',
    );
  }
  if (certificate.extensions.basicConstraints?.ca !== true) {
    throw new TrustError(
      'issuer.not_authority',
      'invalid',
      'cannot issue: the certificate is not an authority’s',
    );
  }
  const { signature } = algorithmOfKey(key);
  const identifier =
    certificate.extensions.subjectKeyIdentifier?.keyIdentifier ?? keyIdentifier(certificate.publicKey);
  return { certificate, key, signatureAlgorithm: signature, keyIdentifier: identifier };
}

/** What a profile says of the status of its certificates, and where that is to be had. */
function encodeStatus(profile: LeafProfile, locations: StatusLocations | undefined): Uint8Array[] {
  if (profile.statusCheck === 'none') return [encodeOcspNoCheck()];
  if (locations === undefined) return [];
  return [encodeCrlDistributionPoints(locations.crl), encodeOcspAccess(locations.ocsp)];
}

/**
 * Encodes what certificates of this issuer and profile have in common, with the places where their status is published
 * if it is; keep it, it makes issuing fast.
 */
export function prepareTemplate(
  issuer: Issuer,
  profile: LeafProfile,
  locations?: StatusLocations,
): CertificateTemplate {
  // virt-pki-validate wants the organization of leaf and authority to be equal.
  const organization = nameAttribute(issuer.certificate.subject, OID.organizationName);
  const extensions = (algorithm: KeyAlgorithm) =>
    knownExtensions(
      Buffer.concat([
        encodeLeafBasicConstraints(),
        encodeLeafKeyUsage(algorithm),
        encodeExtKeyUsage(profile.purposes),
        encodeAuthorityKeyIdentifier(issuer.keyIdentifier),
        ...encodeStatus(profile, locations),
      ]),
    );
  return {
    issuer,
    profile,
    head: VERSION_3,
    middle: Buffer.concat([issuer.signatureAlgorithm.identifier, issuer.certificate.subject.der]),
    subjectPrefix:
      organization === undefined ? new Uint8Array(0) : encodeRdn(OID.organizationName, organization),
    extensions: {
      signing: extensions(KEY_ALGORITHMS['ecdsa-p256-sha256']),
      deciphering: extensions(KEY_ALGORITHMS['rsa-2048-sha256']),
    },
  };
}

const NOTHING = new Uint8Array(0);

function extensionsFor({ extensions }: CertificateTemplate, info: PublicKeyInfo): KnownExtensions {
  const { keyEncipherment } = acceptedKeyAlgorithm(info, 'requested public key');
  return keyEncipherment ? extensions.deciphering : extensions.signing;
}

/** Encodes the TBSCertificate (RFC 5280 §4.1.2); throws `key.refused` or `name.value_malformed`. */
export function encodeTbs(
  template: CertificateTemplate,
  fields: CertificateFields,
  info: PublicKeyInfo = parsePublicKeyInfo(fields.publicKey),
): Uint8Array {
  return sequence(
    template.head,
    element(TAG.integer, serialNumberOctets(fields.serialNumber)),
    template.middle,
    validityBetween(fields.notBefore, fields.notAfter).der,
    sequence(template.subjectPrefix, encodeRdn(OID.commonName, fields.commonName)),
    info.der,
    encodeExtensionsField(
      extensionsFor(template, info).der,
      encodeSubjectKeyIdentifier(keyIdentifier(info)),
      fields.names.length === 0 ? NOTHING : encodeSubjectAltName(fields.names),
    ),
  );
}

/** Encodes and lints; throws `certificate.lint` with the findings where one of them is an error. */
export function prepareCertificate(
  template: CertificateTemplate,
  fields: CertificateFields,
): PreparedCertificate {
  const info = parsePublicKeyInfo(fields.publicKey);
  const tbs = encodeTbs(template, fields, info);
  const { profile, issuer } = template;
  const subject = { kind: 'leaf', profile, issuer: issuer.certificate } as const;
  const findings = lintCertificate(tbs, subject, {
    issuer: issuer.certificate.subject,
    publicKey: info,
    validity: validityBetween(fields.notBefore, fields.notAfter),
    extensions: extensionsFor(template, info),
  });
  const warnings = refuseErrors(findings, fields.commonName);
  return { tbs: tbs as PreparedCertificate['tbs'], serialNumber: fields.serialNumber, warnings };
}

/** Signs what was prepared and, by then, recorded; returns the DER of the certificate. */
export function signCertificate(prepared: PreparedCertificate, issuer: Issuer): Uint8Array {
  const signature = signBytes(prepared.tbs, issuer.signatureAlgorithm, issuer.key);
  return encodeSigned(prepared.tbs, issuer.signatureAlgorithm.identifier, signature);
}
