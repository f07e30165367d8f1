import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { contextTag, DerReader, TAG } from './der/reader.ts';
import { type CertificateExtensions, type KnownExtensions, readExtensions } from './extensions.ts';
import { type Name, namesEqual, readName } from './name.ts';
import { decodePem, encodePem } from './pem.ts';
import { type PublicKeyInfo, parsePublicKeyInfo, pinOf } from './public-key-info.ts';
import { type SerialNumber, serialNumberOfOctets } from './serial-number.ts';
import { readValidity, type Validity } from './validity.ts';

/** What is signed of a certificate (RFC 5280 §4.1.2). */
export interface TbsCertificate {
  readonly serialNumber: SerialNumber;
  /** DER of the AlgorithmIdentifier. */
  readonly signatureAlgorithm: Uint8Array;
  readonly issuer: Name;
  readonly notBefore: Instant;
  readonly notAfter: Instant;
  readonly subject: Name;
  readonly publicKey: PublicKeyInfo;
  readonly extensions: CertificateExtensions;
}

/** An X.509 certificate of version 3, well-formed but not verified. */
export interface Certificate extends TbsCertificate {
  readonly der: Uint8Array;
  /** The DER of the TBSCertificate, which the signature covers. */
  readonly tbs: Uint8Array;
  readonly signature: Uint8Array;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  /** The pin of the public key. */
  readonly pin: SpkiPin;
}

/** Parts already parsed: where a certificate has the very same bytes they are not parsed again. */
export interface KnownParts {
  readonly issuer?: Name;
  readonly publicKey?: PublicKeyInfo;
  readonly validity?: Validity;
  readonly extensions?: KnownExtensions;
}

/**
 * How a certificate must be written: `tolerant` reads besides what others issue against RFC 5280 §4.1.2 and what means the
 * same to everybody: a GeneralizedTime before 2050, a serial number that is negative or too long.
 */
export type CertificateForm = 'strict' | 'tolerant';

const MAX_BYTES = 256 * 1024;
const CERTIFICATE_LABELS = ['CERTIFICATE', 'X509 CERTIFICATE'];

function readSerial(tbs: DerReader, form: CertificateForm): Uint8Array {
  if (form === 'tolerant') {
    const serial = tbs.content(TAG.integer);
    if (serial.length === 0 || serial.length > 64) tbs.fail('a serial number of a wrong length');
    return serial;
  }
  const serial = tbs.integer();
  if ((serial[0] as number) >= 0x80) tbs.fail('a negative serial number');
  if (serial.length > 20) tbs.fail('a serial number of more than 20 octets');
  return serial;
}

function readTbs(tbs: DerReader, known: KnownParts, form: CertificateForm): TbsCertificate {
  const version = contextTag(0, 'constructed');
  // RFC 5280 §4.1.2.1: extensions are used here, so the version is 3.
  if (!tbs.nextIs(version)) tbs.fail('it is of version 1, not 3');
  const versionField = tbs.enter(version);
  if (versionField.smallInteger() !== 2) versionField.fail('its version is not 3');
  versionField.finish();
  const serial = readSerial(tbs, form);
  const signatureAlgorithm = tbs.element(TAG.sequence);
  const issuer = readName(tbs, known.issuer);
  const { notBefore, notAfter } = readValidity(tbs, known.validity, form);
  const subject = readName(tbs);
  const spki = tbs.element(TAG.sequence);
  const publicKey =
    known.publicKey !== undefined && Buffer.compare(spki, known.publicKey.der) === 0
      ? known.publicKey
      : parsePublicKeyInfo(spki);
  for (const uniqueId of [1, 2]) {
    const tag = contextTag(uniqueId, 'primitive');
    if (tbs.nextIs(tag)) tbs.content(tag);
  }
  const wrapper = tbs.done ? undefined : tbs.enter(contextTag(3, 'constructed'));
  tbs.finish();
  const list = wrapper?.sequence() ?? DerReader.over(new Uint8Array(0), { what: 'extensions' });
  if (wrapper !== undefined && list.done) list.fail('an empty list of extensions');
  wrapper?.finish();
  return {
    serialNumber: serialNumberOfOctets(serial),
    signatureAlgorithm,
    issuer,
    notBefore,
    notAfter,
    subject,
    publicKey,
    extensions: readExtensions(list, known.extensions),
  };
}

/** Parses the DER of a TBSCertificate, as lint does before it is signed; throws `der.malformed`. */
export function parseTbsCertificate(
  tbs: Uint8Array,
  known: KnownParts = {},
  form: CertificateForm = 'strict',
): TbsCertificate {
  const reader = DerReader.over(tbs, { what: 'certificate', maxBytes: MAX_BYTES });
  const inner = reader.sequence();
  reader.finish();
  return readTbs(inner, known, form);
}

/** Parses a DER certificate, its signature unverified; throws `der.malformed` or `der.too_large`. */
export function parseCertificate(der: Uint8Array, form: CertificateForm = 'strict'): Certificate {
  const reader = DerReader.over(der, { what: 'certificate', maxBytes: MAX_BYTES });
  const outer = reader.sequence();
  reader.finish();
  const tbs = outer.element(TAG.sequence);
  const fields = parseTbsCertificate(tbs, {}, form);
  const signatureAlgorithm = outer.element(TAG.sequence);
  // SECURITY: RFC 5280 §4.1.1.2: the unsigned field must say what the signed one says.
  if (Buffer.compare(signatureAlgorithm, fields.signatureAlgorithm) !== 0) {
    outer.fail('its two signature algorithms differ');
  }
  const signature = outer.bitStringOctets();
  outer.finish();
  return { ...fields, der, tbs, signature, spki: fields.publicKey.der, pin: pinOf(fields.publicKey) };
}

/** Parses every certificate of a PEM text, at least one, other blocks passed over; throws `pem.*`, `der.*`. */
export function parseCertificates(text: string, form: CertificateForm = 'strict'): Certificate[] {
  const certificates: Certificate[] = [];
  for (const block of decodePem(text)) {
    if (!CERTIFICATE_LABELS.includes(block.label)) continue;
    try {
      certificates.push(parseCertificate(block.bytes, form));
    } catch (cause) {
      if (!(cause instanceof TrustError)) throw cause;
      throw new TrustError(cause.code, cause.category, `${cause.message} (PEM block of line ${block.line})`, {
        context: { ...cause.context, line: block.line },
        cause,
      });
    }
  }
  if (certificates.length === 0) {
    throw new TrustError(
      'certificate.missing',
      'invalid',
      'cannot read certificate: the text has no -----BEGIN CERTIFICATE----- block',
    );
  }
  return certificates;
}

/** The PEM of certificates, one after the other. */
export function encodeCertificatesPem(certificates: readonly { readonly der: Uint8Array }[]): string {
  return certificates.map(({ der }) => encodePem('CERTIFICATE', der)).join('');
}

/** Whether issuer and subject are the same name (RFC 5280 §6.1: self-issued). */
export function isSelfIssued(certificate: TbsCertificate): boolean {
  return namesEqual(certificate.issuer, certificate.subject);
}
