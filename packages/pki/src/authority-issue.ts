import type { KeyObject } from 'node:crypto';
import type { Instant } from '@virt-trust/base/instant.ts';
import { type Issuer, type PreparedCertificate, VERSION_3 } from './certificate-issue.ts';
import { TAG } from './der/reader.ts';
import { encodeTime } from './der/time.ts';
import { element, sequence } from './der/writer.ts';
import {
  encodeAuthorityBasicConstraints,
  encodeAuthorityKeyIdentifier,
  encodeExtensionsField,
  encodeKeyUsage,
  encodeNameConstraintsExtension,
  encodeSigned,
  encodeSubjectKeyIdentifier,
} from './extension-encode.ts';
import { algorithmOfKey, spkiOfKey } from './key.ts';
import { lintCertificate, refuseErrors } from './lint.ts';
import { formatName, type Name } from './name.ts';
import type { NameConstraints } from './name-constraints.ts';
import { AUTHORITY_PROFILES, type AuthorityProfile } from './profiles.ts';
import { keyIdentifier, parsePublicKeyInfo } from './public-key-info.ts';
import { type SerialNumber, serialNumberOctets } from './serial-number.ts';
import { signBytes } from './signature.ts';

/** What goes into the certificate of an authority. */
export interface AuthorityFields {
  readonly serialNumber: SerialNumber;
  readonly subject: Name;
  readonly notBefore: Instant;
  readonly notAfter: Instant;
  /** What names the certificates below may have; undefined for any. */
  readonly nameConstraints: NameConstraints | undefined;
}

interface Signer {
  readonly name: Name;
  readonly identifier: Uint8Array;
  /** The issuer's key identifier; undefined where it signs itself. */
  readonly authority: Uint8Array | undefined;
}

function encodeAuthorityTbs(
  profile: AuthorityProfile,
  fields: AuthorityFields,
  publicKey: Uint8Array,
  signer: Signer,
): Uint8Array {
  const extensions = [
    encodeAuthorityBasicConstraints(profile.pathLenConstraint),
    encodeKeyUsage(['keyCertSign', 'cRLSign'], 'critical'),
    encodeSubjectKeyIdentifier(keyIdentifier(parsePublicKeyInfo(publicKey))),
  ];
  if (signer.authority !== undefined) extensions.push(encodeAuthorityKeyIdentifier(signer.authority));
  if (fields.nameConstraints !== undefined) {
    extensions.push(encodeNameConstraintsExtension(fields.nameConstraints));
  }
  return sequence(
    VERSION_3,
    element(TAG.integer, serialNumberOctets(fields.serialNumber)),
    signer.identifier,
    signer.name.der,
    sequence(encodeTime(fields.notBefore), encodeTime(fields.notAfter)),
    fields.subject.der,
    publicKey,
    encodeExtensionsField(...extensions),
  );
}

/** A self-signed root authority, linted and signed; returns DER, throws `certificate.lint`. */
export function issueRootAuthority(fields: AuthorityFields, key: KeyObject): Uint8Array {
  const { signature } = algorithmOfKey(key);
  const tbs = encodeAuthorityTbs(AUTHORITY_PROFILES.root, fields, spkiOfKey(key), {
    name: fields.subject,
    identifier: signature.identifier,
    authority: undefined,
  });
  refuseErrors(
    lintCertificate(tbs, { kind: 'root', profile: AUTHORITY_PROFILES.root }),
    formatName(fields.subject),
  );
  return encodeSigned(tbs, signature.identifier, signBytes(tbs, signature, key));
}

/** Prepares an issuing authority below `issuer`, to be recorded, then signed; throws `certificate.lint`. */
export function prepareIssuingAuthority(
  issuer: Issuer,
  fields: AuthorityFields,
  publicKey: Uint8Array,
): PreparedCertificate {
  const profile = AUTHORITY_PROFILES.issuing;
  const tbs = encodeAuthorityTbs(profile, fields, publicKey, {
    name: issuer.certificate.subject,
    identifier: issuer.signatureAlgorithm.identifier,
    authority: issuer.keyIdentifier,
  });
  const findings = lintCertificate(tbs, { kind: 'issuing', profile, issuer: issuer.certificate });
  const warnings = refuseErrors(findings, formatName(fields.subject));
  return { tbs: tbs as PreparedCertificate['tbs'], serialNumber: fields.serialNumber, warnings };
}
