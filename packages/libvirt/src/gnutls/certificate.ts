import { TrustError } from '@virt-trust/base/error.ts';
import { pinOfSpki } from '@virt-trust/base/spki-pin.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import { contextTag, DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import { type Name, parseName } from '@virt-trust/pki/name.ts';
import { parsePublicKeyInfo } from '@virt-trust/pki/public-key-info.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import { readExtensionsAsGnutls } from './extensions.ts';
import { type FoundBlock, findBlock } from './pem.ts';
import { readTimeAsGnutls } from './time.ts';

/** A certificate as GnuTLS takes it, which is more than RFC 5280 allows. */
export interface GnutlsCertificate extends Certificate {
  readonly version: number;
  /** The octets of the serial number in hexadecimal, by which CRLs name it. */
  readonly serial: string;
  /** Object identifiers of extensions that cannot be decoded. */
  readonly malformedExtensions: readonly string[];
  /** Values of the TLS features extension (RFC 7633). */
  readonly tlsFeatures: readonly number[];
  /** The value of nameConstraints, undecoded. */
  readonly nameConstraints: Uint8Array | undefined;
}

const MAX_BYTES = 256 * 1024;
const SHOWN_OCTETS = 64;

/**
 * Reads a certificate as gnutls_x509_crt_import does (lib/x509/x509.c): DER, any version and serial number, no
 * extension twice, none below version 3; a malformed subjectAltName refuses it, other extensions only where they are
 * needed. Throws `der.*` or `certificate.refused`.
 */
export function readGnutlsCertificate(der: Uint8Array): GnutlsCertificate {
  const reader = DerReader.over(der, { what: 'certificate', maxBytes: MAX_BYTES });
  const outer = reader.sequence();
  reader.finish();
  const tbs = outer.element(TAG.sequence);
  const signatureAlgorithm = outer.element(TAG.sequence);
  const signature = outer.bitStringOctets();
  outer.finish();
  const whole = DerReader.over(tbs, { what: 'certificate', maxBytes: MAX_BYTES });
  const inner = whole.sequence();
  const version = readVersion(inner);
  const serial = inner.content(TAG.integer);
  const innerAlgorithm = inner.element(TAG.sequence);
  if (!sameAlgorithm(signatureAlgorithm, innerAlgorithm)) refuse('its two signature algorithms differ');
  const issuer = readNameAsGnutls(inner.element(TAG.sequence));
  const validity = inner.sequence();
  const notBefore = readTimeAsGnutls(validity);
  const notAfter = readTimeAsGnutls(validity);
  validity.finish();
  const subject = readNameAsGnutls(inner.element(TAG.sequence));
  const spki = inner.element(TAG.sequence);
  for (const uniqueId of [1, 2]) {
    const tag = contextTag(uniqueId, 'primitive');
    if (!inner.nextIs(tag)) continue;
    inner.content(tag);
    if (version === 1) refuse('a unique identifier in a certificate of version 1');
  }
  const wrapper = inner.done ? undefined : inner.enter(contextTag(3, 'constructed'));
  inner.finish();
  if (wrapper !== undefined && version < 3) refuse(`extensions in a certificate of version ${version}`);
  const { extensions, malformed, tlsFeatures, nameConstraints } = readExtensionsAsGnutls(wrapper?.sequence());
  wrapper?.finish();
  return {
    version,
    serial: Buffer.from(serial).toString('hex'),
    // GnuTLS compares octets, so this is any number of them.
    serialNumber: Buffer.from(serial)
      .toString('hex')
      .slice(0, 2 * SHOWN_OCTETS) as SerialNumber,
    signatureAlgorithm,
    issuer,
    notBefore,
    notAfter,
    subject,
    publicKey: parsePublicKeyInfoOrRefuse(spki),
    extensions,
    der,
    tbs,
    signature,
    spki,
    pin: pinOfSpki(spki),
    malformedExtensions: malformed,
    tlsFeatures,
    nameConstraints,
  };
}

function readVersion(inner: DerReader): number {
  const tag = contextTag(0, 'constructed');
  if (!inner.nextIs(tag)) return 1;
  const field = inner.enter(tag);
  const octets = field.content(TAG.integer);
  field.finish();
  return octets.length === 1 ? (octets[0] as number) + 1 : refuse('its version is no number');
}

/** compare_sig_algorithm: NULL parameters are as good as none. */
function sameAlgorithm(left: Uint8Array, right: Uint8Array): boolean {
  const bare = (der: Uint8Array) => {
    const fields = DerReader.over(der, { what: 'signature algorithm' }).sequence();
    const oid = fields.oid();
    const parameters = fields.done ? undefined : fields.element();
    const empty = parameters === undefined || (parameters[0] === TAG.null && parameters.length === 2);
    return `${oid} ${empty ? '' : Buffer.from(parameters).toString('hex')}`;
  };
  return bare(left) === bare(right);
}

/** A Name; where its strings are not what we would issue, its attributes stay unread, as GnuTLS compares DER. */
export function readNameAsGnutls(der: Uint8Array): Name {
  const list = DerReader.over(der, { what: 'distinguished name' }).sequence();
  while (!list.done) {
    const set = list.enter(TAG.set);
    while (!set.done) {
      const pair = set.sequence();
      pair.oid();
      pair.element();
      pair.finish();
    }
  }
  try {
    return parseName(der);
  } catch {
    return { der, rdns: [] };
  }
}

function parsePublicKeyInfoOrRefuse(spki: Uint8Array): Certificate['publicKey'] {
  try {
    return parsePublicKeyInfo(spki);
  } catch {
    const fields = DerReader.over(spki, { what: 'public key' }).sequence();
    fields.element(TAG.sequence);
    const keyBits = fields.bitStringOctets();
    return { der: spki, keyBits, algorithm: { kind: 'refused', reason: 'not a key that we know' } };
  }
}

function refuse(reason: string): never {
  throw new TrustError('certificate.refused', 'invalid', `cannot read certificate: ${reason}`);
}

const BEGIN = '-----BEGIN CERTIFICATE';
const BEGIN_X509 = '-----BEGIN X509 CERTIFICATE';

/** One certificate of PEM (gnutls_x509_crt_import): the first block, `CERTIFICATE` before `X509 CERTIFICATE`. */
export function readGnutlsCertificatePem(text: string, from = 0): GnutlsCertificate {
  let block: FoundBlock = findBlock(text, 'CERTIFICATE', from);
  if (block.kind !== 'found') block = findBlock(text, 'X509 CERTIFICATE', from);
  if (block.kind === 'none') refuse('there is no -----BEGIN CERTIFICATE----- block');
  if (block.kind === 'broken') refuse(block.reason);
  return readGnutlsCertificate(block.der);
}

/**
 * The certificates of a PEM file (gnutls_x509_crt_list_import): where one cannot be read none is; what stands behind
 * the first `limit` is not looked at.
 */
export function readGnutlsCertificates(text: string, limit: number): GnutlsCertificate[] {
  let at = nextBlock(text, 0);
  if (at < 0) refuse('there is no -----BEGIN CERTIFICATE----- block');
  const certificates: GnutlsCertificate[] = [];
  while (at >= 0 && certificates.length < limit) {
    certificates.push(readGnutlsCertificatePem(text, at));
    at = nextBlock(text, at + 1);
  }
  return certificates;
}

function nextBlock(text: string, from: number): number {
  const found = text.indexOf(BEGIN, from);
  return found >= 0 ? found : text.indexOf(BEGIN_X509, from);
}

/** Whether GnuTLS takes `issuer` for the issuer of `certificate` (is_issuer, lib/x509/verify.c): names to the octet. */
export function isGnutlsIssuer(certificate: Certificate, issuer: Certificate): boolean {
  if (Buffer.compare(certificate.issuer.der, issuer.subject.der) !== 0) return false;
  const wanted = certificate.extensions.authorityKeyIdentifier?.keyIdentifier;
  const offered = issuer.extensions.subjectKeyIdentifier?.keyIdentifier;
  return wanted === undefined || offered === undefined || Buffer.compare(wanted, offered) === 0;
}
