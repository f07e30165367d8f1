import type { KeyAlgorithm } from './algorithms.ts';
import { OID } from './der/oid.ts';
import { contextTag } from './der/reader.ts';
import {
  bitString,
  element,
  implicit,
  NULL,
  namedBits,
  octetString,
  oid,
  sequence,
  smallInteger,
  TRUE,
} from './der/writer.ts';
import { KEY_USAGES, type KeyPurpose, type KeyUsage } from './extensions.ts';
import { encodeGeneralName, type GeneralName } from './general-name.ts';
import { encodeNameConstraints, type NameConstraints } from './name-constraints.ts';

type Criticality = 'critical' | 'not-critical';

/** One Extension (RFC 5280 §4.1). */
export function encodeExtension(type: string, criticality: Criticality, value: Uint8Array): Uint8Array {
  return sequence(oid(type), ...(criticality === 'critical' ? [TRUE] : []), octetString(value));
}

/** The extensions field `[3]` around extensions that are already encoded. */
export function encodeExtensionsField(...extensions: readonly Uint8Array[]): Uint8Array {
  return element(contextTag(3, 'constructed'), sequence(...extensions));
}

/** basicConstraints of an end certificate: cA FALSE, critical as libvirt's own tools make it. */
export function encodeLeafBasicConstraints(): Uint8Array {
  return encodeExtension(OID.basicConstraints, 'critical', sequence());
}

/** basicConstraints of an authority (RFC 5280 §4.2.1.9: critical). */
export function encodeAuthorityBasicConstraints(pathLenConstraint: number): Uint8Array {
  return encodeExtension(OID.basicConstraints, 'critical', sequence(TRUE, smallInteger(pathLenConstraint)));
}

/** keyUsage with the given bits. */
export function encodeKeyUsage(usages: readonly KeyUsage[], criticality: Criticality): Uint8Array {
  const bits = usages.map((usage) => KEY_USAGES.indexOf(usage));
  return encodeExtension(OID.keyUsage, criticality, namedBits(bits));
}

/**
 * keyUsage of an end certificate. libvirt before 11.6 refuses a critical one without keyEncipherment even for EC keys,
 * and RFC 5480 §3 forbids that bit to them: so it is not critical there.
 */
export function encodeLeafKeyUsage(algorithm: KeyAlgorithm): Uint8Array {
  return algorithm.keyEncipherment
    ? encodeKeyUsage(['digitalSignature', 'keyEncipherment'], 'critical')
    : encodeKeyUsage(['digitalSignature'], 'not-critical');
}

/** extKeyUsage (RFC 5280 §4.2.1.12). */
export function encodeExtKeyUsage(purposes: readonly KeyPurpose[]): Uint8Array {
  const list = sequence(...purposes.map((purpose) => oid(OID[purpose])));
  return encodeExtension(OID.extKeyUsage, 'critical', list);
}

const KEY_IDENTIFIER_OID = oid(OID.subjectKeyIdentifier);

/** subjectKeyIdentifier (RFC 5280 §4.2.1.2). */
export function encodeSubjectKeyIdentifier(identifier: Uint8Array): Uint8Array {
  return sequence(KEY_IDENTIFIER_OID, octetString(octetString(identifier)));
}

/** authorityKeyIdentifier with the key identifier alone (RFC 5280 §4.2.1.1). */
export function encodeAuthorityKeyIdentifier(identifier: Uint8Array): Uint8Array {
  return encodeExtension(OID.authorityKeyIdentifier, 'not-critical', sequence(implicit(0, identifier)));
}

const ALT_NAME_OID = oid(OID.subjectAltName);

/** subjectAltName, not critical as the subject is never empty (RFC 5280 §4.2.1.6). */
export function encodeSubjectAltName(names: readonly GeneralName[]): Uint8Array {
  return sequence(ALT_NAME_OID, octetString(sequence(...names.map(encodeGeneralName))));
}

/** nameConstraints (RFC 5280 §4.2.1.10: critical). */
export function encodeNameConstraintsExtension(constraints: NameConstraints): Uint8Array {
  return encodeExtension(OID.nameConstraints, 'critical', encodeNameConstraints(constraints));
}

/** id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1). */
export function encodeOcspNoCheck(): Uint8Array {
  return encodeExtension(OID.ocspNoCheck, 'not-critical', NULL);
}

/** Certificate from the signed part, the AlgorithmIdentifier and the signature (RFC 5280 §4.1). */
export function encodeSigned(tbs: Uint8Array, identifier: Uint8Array, signature: Uint8Array): Uint8Array {
  return sequence(tbs, identifier, bitString(signature));
}
