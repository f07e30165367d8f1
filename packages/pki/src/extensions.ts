import { OID } from './der/oid.ts';
import { contextTag, DerReader, TAG } from './der/reader.ts';
import { readListedExtension } from './extension-list.ts';
import { type GeneralName, readGeneralName } from './general-name.ts';
import { type NameConstraints, readNameConstraints } from './name-constraints.ts';

/** The bits of keyUsage in their order (RFC 5280 §4.2.1.3). */
export const KEY_USAGES = [
  'digitalSignature',
  'contentCommitment',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;

export type KeyUsage = (typeof KEY_USAGES)[number];

/** What a certificate is for: a role of TLS (RFC 5280 §4.2.1.12), or signing OCSP answers (RFC 6960 §4.2.2.2). */
export type KeyPurpose = 'serverAuth' | 'clientAuth' | 'ocspSigning';

/** An extension that is there: whether it is critical, and its value. */
type Extension<Value> = { readonly critical: boolean } & Value;

/** The extensions of a certificate, those that are processed in typed form (RFC 5280 §4.2). */
export interface CertificateExtensions {
  readonly basicConstraints:
    | Extension<{ readonly ca: boolean; readonly pathLenConstraint: number | undefined }>
    | undefined;
  readonly keyUsage: Extension<{ readonly usages: readonly KeyUsage[] }> | undefined;
  /** Purposes as object identifiers, at least one. */
  readonly extKeyUsage: Extension<{ readonly purposes: readonly string[] }> | undefined;
  readonly subjectAltName: Extension<{ readonly names: readonly GeneralName[] }> | undefined;
  readonly nameConstraints: Extension<NameConstraints> | undefined;
  readonly authorityKeyIdentifier: Extension<{ readonly keyIdentifier: Uint8Array | undefined }> | undefined;
  readonly subjectKeyIdentifier: Extension<{ readonly keyIdentifier: Uint8Array }> | undefined;
  /** Undecoded. */
  readonly crlDistributionPoints: Extension<{ readonly der: Uint8Array }> | undefined;
  readonly authorityInfoAccess: Extension<{ readonly der: Uint8Array }> | undefined;
  /** Object identifiers of all extensions, in their order. */
  readonly oids: readonly string[];
  /** Object identifiers of critical extensions that are not processed. */
  readonly unknownCritical: readonly string[];
}

type Mutable = { -readonly [Key in keyof CertificateExtensions]: CertificateExtensions[Key] };

const MAX_EXTENSIONS = 64;
const MAX_NAMES = 4096;

/** Reads a non-empty SEQUENCE OF GeneralName (RFC 5280 §4.2.1.6). */
function readGeneralNames(reader: DerReader): GeneralName[] {
  const list = reader.sequence();
  if (list.done) list.fail('an empty subjectAltName');
  const names: GeneralName[] = [];
  while (!list.done) {
    if (names.length >= MAX_NAMES) list.fail(`more than ${MAX_NAMES} names`);
    names.push(readGeneralName(list));
  }
  return names;
}

function readBasicConstraints(value: DerReader) {
  const inner = value.sequence();
  const ca = inner.nextIs(TAG.boolean) ? inner.boolean() : false;
  const pathLenConstraint = inner.done ? undefined : inner.smallInteger();
  inner.finish();
  return { ca, pathLenConstraint };
}

function readKeyUsage(value: DerReader) {
  const usages = value.namedBits().map((bit) => {
    return KEY_USAGES[bit] ?? value.fail('an unknown bit of keyUsage');
  });
  if (usages.length === 0) value.fail('a keyUsage without any bit');
  return { usages };
}

function readExtKeyUsage(value: DerReader) {
  const list = value.sequence();
  if (list.done) list.fail('an empty extKeyUsage');
  const purposes: string[] = [];
  while (!list.done) purposes.push(list.oid());
  return { purposes };
}

function readAuthorityKeyIdentifier(value: DerReader) {
  const inner = value.sequence();
  const tag = contextTag(0, 'primitive');
  const keyIdentifier = inner.nextIs(tag) ? inner.content(tag) : undefined;
  while (!inner.done) inner.element();
  return { keyIdentifier };
}

function readAuthorityInfoAccess(value: DerReader) {
  const der = value.element(TAG.sequence);
  const list = DerReader.over(der, { what: 'authorityInfoAccess' }).sequence();
  if (list.done) list.fail('an empty authorityInfoAccess');
  while (!list.done) {
    const description = list.sequence();
    description.oid();
    readGeneralName(description);
    description.finish();
  }
  return { der };
}

function readKnown(into: Mutable, oid: string, critical: boolean, value: DerReader): boolean {
  switch (oid) {
    case OID.basicConstraints:
      into.basicConstraints = { critical, ...readBasicConstraints(value) };
      return true;
    case OID.keyUsage:
      into.keyUsage = { critical, ...readKeyUsage(value) };
      return true;
    case OID.extKeyUsage:
      into.extKeyUsage = { critical, ...readExtKeyUsage(value) };
      return true;
    case OID.subjectAltName:
      into.subjectAltName = { critical, names: readGeneralNames(value) };
      return true;
    case OID.nameConstraints:
      into.nameConstraints = { critical, ...readNameConstraints(value) };
      return true;
    case OID.authorityKeyIdentifier:
      into.authorityKeyIdentifier = { critical, ...readAuthorityKeyIdentifier(value) };
      return true;
    case OID.subjectKeyIdentifier:
      into.subjectKeyIdentifier = { critical, keyIdentifier: value.content(TAG.octetString) };
      return true;
    case OID.crlDistributionPoints:
      into.crlDistributionPoints = { critical, der: value.element(TAG.sequence) };
      return true;
    case OID.authorityInfoAccess:
      into.authorityInfoAccess = { critical, ...readAuthorityInfoAccess(value) };
      return true;
    case OID.certificatePolicies:
    case OID.issuerAltName:
      // No policy is asked for and issuers go by their names: nothing in these refuses a certificate.
      value.element(TAG.sequence);
      return true;
    default:
      return false;
  }
}

const NO_EXTENSIONS: CertificateExtensions = {
  basicConstraints: undefined,
  keyUsage: undefined,
  extKeyUsage: undefined,
  subjectAltName: undefined,
  nameConstraints: undefined,
  authorityKeyIdentifier: undefined,
  subjectKeyIdentifier: undefined,
  crlDistributionPoints: undefined,
  authorityInfoAccess: undefined,
  oids: [],
  unknownCritical: [],
};

/** Extensions that were read before, with their encoding. */
export interface KnownExtensions {
  /** One Extension after the other. */
  readonly der: Uint8Array;
  readonly read: CertificateExtensions;
}

/** Reads extensions that many certificates will begin with. */
export function knownExtensions(der: Uint8Array): KnownExtensions {
  return { der, read: readExtensions(DerReader.over(der, { what: 'extensions' })) };
}

/**
 * Reads a SEQUENCE OF Extension; one extension twice is refused (RFC 5280 §4.2). Where it begins with the same bytes as
 * `known`, those are not read again.
 */
export function readExtensions(list: DerReader, known?: KnownExtensions): CertificateExtensions {
  const before = known !== undefined && list.skip(known.der) ? known.read : NO_EXTENSIONS;
  const result: Mutable = { ...before };
  const seen = [...before.oids];
  const unknownCritical = [...before.unknownCritical];
  while (!list.done) {
    const { oid, critical, value } = readListedExtension(list, seen, MAX_EXTENSIONS);
    if (readKnown(result, oid, critical, value)) value.finish();
    else if (critical) unknownCritical.push(oid);
  }
  result.oids = seen;
  result.unknownCritical = unknownCritical;
  return result;
}
