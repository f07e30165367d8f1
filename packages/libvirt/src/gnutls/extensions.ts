import { TrustError } from '@virt-trust/base/error.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { contextTag, DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import { type CertificateExtensions, KEY_USAGES } from '@virt-trust/pki/extensions.ts';
import type { GeneralName } from '@virt-trust/pki/general-name.ts';
import { formatIpOctets } from '@virt-trust/pki/ip-address.ts';
import { parseName } from '@virt-trust/pki/name.ts';

/** The object identifier of TLS features, must-staple among them (RFC 7633). */
const TLS_FEATURES = '1.3.6.1.5.5.7.1.24';

/** Critical extensions that GnuTLS knows (lib/x509/supported_exts.gperf); others refuse the certificate. */
const SUPPORTED: ReadonlySet<string> = new Set([
  OID.basicConstraints,
  OID.subjectKeyIdentifier,
  OID.keyUsage,
  OID.subjectAltName,
  OID.issuerAltName,
  OID.nameConstraints,
  OID.crlDistributionPoints,
  OID.certificatePolicies,
  OID.authorityKeyIdentifier,
  OID.extKeyUsage,
  OID.authorityInfoAccess,
  // inhibitAnyPolicy, proxy certificate information.
  '2.5.29.54',
  '1.3.6.1.5.5.7.1.14',
  TLS_FEATURES,
]);

const MAX_EXTENSIONS = 1000;
const MAX_NAMES = 10_000;

type Mutable = { -readonly [Key in keyof CertificateExtensions]: CertificateExtensions[Key] };

/** Reads extensions; what cannot be decoded is told, except for alternative names, which GnuTLS demands at once. */
export function readExtensionsAsGnutls(list: DerReader | undefined): {
  readonly extensions: CertificateExtensions;
  readonly malformed: readonly string[];
  readonly tlsFeatures: readonly number[];
  /** The value of nameConstraints: GnuTLS has rules of its own for it. */
  readonly nameConstraints: Uint8Array | undefined;
} {
  const oids: string[] = [];
  const unknownCritical: string[] = [];
  const malformed: string[] = [];
  let tlsFeatures: readonly number[] = [];
  let nameConstraints: Uint8Array | undefined;
  const into: Mutable = {
    basicConstraints: undefined,
    keyUsage: undefined,
    extKeyUsage: undefined,
    subjectAltName: undefined,
    nameConstraints: undefined,
    authorityKeyIdentifier: undefined,
    subjectKeyIdentifier: undefined,
    crlDistributionPoints: undefined,
    authorityInfoAccess: undefined,
    oids,
    unknownCritical,
  };
  while (list !== undefined && !list.done) {
    if (oids.length >= MAX_EXTENSIONS) list.fail(`more than ${MAX_EXTENSIONS} extensions`);
    const entry = list.sequence();
    const oid = entry.oid();
    if (oids.includes(oid)) entry.fail(`extension ${oid} twice`);
    oids.push(oid);
    const critical = entry.nextIs(TAG.boolean) ? entry.content(TAG.boolean)[0] !== 0 : false;
    const value = entry.content(TAG.octetString);
    entry.finish();
    if (critical && !SUPPORTED.has(oid)) unknownCritical.push(oid);
    const reader = DerReader.over(value, { what: 'extension' });
    if (oid === OID.subjectAltName) {
      into.subjectAltName = { critical, names: readNames(reader) };
      reader.finish();
    } else if (oid === OID.issuerAltName) {
      readNames(reader);
      reader.finish();
    } else {
      try {
        if (oid === TLS_FEATURES) tlsFeatures = readTlsFeatures(reader);
        else if (oid === OID.nameConstraints) nameConstraints = value;
        else readOther(into, oid, critical, reader);
      } catch (error) {
        if (!(error instanceof TrustError)) throw error;
        malformed.push(oid);
      }
    }
  }
  return { extensions: into, malformed, tlsFeatures, nameConstraints };
}

function readOther(into: Mutable, oid: string, critical: boolean, reader: DerReader): void {
  switch (oid) {
    case OID.basicConstraints: {
      const inner = reader.sequence();
      const ca = inner.nextIs(TAG.boolean) ? inner.content(TAG.boolean)[0] !== 0 : false;
      const limit = inner.done ? undefined : inner.content(TAG.integer);
      inner.finish();
      reader.finish();
      into.basicConstraints = { critical, ca, pathLenConstraint: limit && pathLength(limit) };
      return;
    }
    case OID.keyUsage: {
      const bits = reader.content(TAG.bitString).subarray(1);
      reader.finish();
      const usages = KEY_USAGES.filter((_, bit) => ((bits[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0);
      into.keyUsage = { critical, usages };
      return;
    }
    case OID.extKeyUsage: {
      const inner = reader.sequence();
      const purposes: string[] = [];
      while (!inner.done) purposes.push(inner.oid());
      reader.finish();
      // GnuTLS cannot tell an empty list from none.
      if (purposes.length > 0) into.extKeyUsage = { critical, purposes };
      return;
    }
    case OID.subjectKeyIdentifier:
      into.subjectKeyIdentifier = { critical, keyIdentifier: reader.content(TAG.octetString) };
      return;
    case OID.authorityKeyIdentifier: {
      const inner = reader.sequence();
      const tag = contextTag(0, 'primitive');
      into.authorityKeyIdentifier = {
        critical,
        keyIdentifier: inner.nextIs(tag) ? inner.content(tag) : undefined,
      };
      return;
    }
    case OID.crlDistributionPoints:
      into.crlDistributionPoints = { critical, der: reader.element(TAG.sequence) };
      return;
  }
}

/** A negative length, as any other that is out of range, is none. */
function pathLength(octets: Uint8Array): number | undefined {
  const value = octets.reduce((sum, octet) => sum * 256 + octet, 0);
  return octets.length > 4 || (octets[0] ?? 0) >= 0x80 ? undefined : value;
}

function readTlsFeatures(reader: DerReader): number[] {
  const inner = reader.sequence();
  const features: number[] = [];
  while (!inner.done) features.push(inner.smallInteger());
  reader.finish();
  return features;
}

/** GeneralNames with whatever octets they hold: GnuTLS looks at them only when it compares. */
function readNames(reader: DerReader): GeneralName[] {
  const list = reader.sequence();
  const names: GeneralName[] = [];
  while (!list.done) {
    if (names.length >= MAX_NAMES) list.fail(`more than ${MAX_NAMES} names`);
    names.push(readName(list));
  }
  return names;
}

function readName(list: DerReader): GeneralName {
  const tag = list.nextTag();
  const number = tag & 0x1f;
  if ((tag & 0xc0) !== 0x80 || number > 8) list.fail(`a GeneralName with tag 0x${tag.toString(16)}`);
  const { der, content } = list.elementAndContent(tag);
  const text = Buffer.from(content).toString('latin1');
  switch (number) {
    case 1:
      return { kind: 'email', value: text };
    case 2:
      return { kind: 'dns', value: text };
    case 4:
      try {
        return { kind: 'directory', value: parseName(content) };
      } catch {
        return { kind: 'other', tag, value: der };
      }
    case 6:
      return { kind: 'uri', value: text };
    case 7: {
      const address = formatIpOctets(content);
      return address === undefined ? { kind: 'other', tag, value: der } : { kind: 'ip', value: address };
    }
    default:
      return { kind: 'other', tag, value: der };
  }
}
