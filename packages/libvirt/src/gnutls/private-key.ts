import { constants, createPrivateKey, type KeyObject, sign, verify } from 'node:crypto';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { contextTag, DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import { element, octetString, sequence } from '@virt-trust/pki/der/writer.ts';
import { findBlock } from './pem.ts';
import { isKnownKey, readGnutlsKey } from './signature.ts';

/** What became of a key file. */
export type GnutlsKeyFile =
  | { readonly kind: 'key'; readonly key: KeyObject }
  | { readonly kind: 'refused'; readonly reason: string; readonly encrypted: boolean };

/** What follows the version in each form. */
const SECOND_FIELD = {
  'RSA PRIVATE KEY': TAG.integer,
  'EC PRIVATE KEY': TAG.octetString,
  'PRIVATE KEY': TAG.sequence,
} as const;
const FORMS = { 'RSA PRIVATE KEY': 'pkcs1', 'EC PRIVATE KEY': 'sec1', 'PRIVATE KEY': 'pkcs8' } as const;

/**
 * Reads a private key file without a password as GnuTLS does (gnutls_x509_privkey_import2, lib/x509/privkey.c): the
 * first block of a key that is not encrypted, whatever stands around it.
 */
export function readGnutlsPrivateKey(text: string): GnutlsKeyFile {
  const found = Object.keys(FORMS)
    .map((label) => ({ label: label as keyof typeof FORMS, at: text.indexOf(`-----BEGIN ${label}-----`) }))
    .filter(({ at }) => at >= 0)
    .sort((left, right) => left.at - right.at)[0];
  if (found === undefined) {
    const encrypted = text.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----');
    return refused(encrypted ? 'it has a password' : 'there is no private key in it', encrypted);
  }
  const block = findBlock(text, found.label, found.at);
  if (block.kind !== 'found') {
    const encrypted = text.slice(found.at, found.at + 200).includes('ENCRYPTED');
    return refused(encrypted ? 'it has a password' : 'its block cannot be read', encrypted);
  }
  try {
    // GnuTLS takes no octet more than the key.
    const reader = DerReader.over(block.der, { what: 'private key' });
    const fields = reader.sequence();
    reader.finish();
    // Nor does it look whether the key has the form of another label.
    fields.element(TAG.integer);
    fields.element(SECOND_FIELD[found.label]);
    const key = readKey(block.der, FORMS[found.label]);
    if (!isKnownKey(key)) return refused('it is of a kind or on a curve that GnuTLS does not know', false);
    return { kind: 'key', key };
  } catch {
    return refused('it is not a valid key of its kind', false);
  }
}

function readKey(der: Uint8Array, type: (typeof FORMS)[keyof typeof FORMS]): KeyObject {
  if (type === 'pkcs1') return createPrivateKey({ key: Buffer.from(wholeRsaKey(der)), format: 'der', type });
  const fields = DerReader.over(der, { what: 'private key' }).sequence();
  const version = fields.element(TAG.integer);
  if (type === 'sec1') {
    const bare = bareEcKey(der);
    return createPrivateKey({ key: Buffer.from(bare), format: 'der', type });
  }
  const algorithm = fields.element(TAG.sequence);
  const inner = fields.content(TAG.octetString);
  const kind = DerReader.over(algorithm, { what: 'private key' }).sequence().oid();
  // Attributes.
  if (fields.nextIs(contextTag(0, 'constructed'))) fields.element();
  fields.finish();
  let whole = der;
  if (kind === OID.ecPublicKey) whole = sequence(version, algorithm, octetString(bareEcKey(inner)));
  if (kind === OID.rsaEncryption) whole = sequence(version, algorithm, octetString(wholeRsaKey(inner)));
  return createPrivateKey({ key: Buffer.from(whole), format: 'der', type });
}

/** An RSAPrivateKey (RFC 8017 A.1.2) with the modulus of its primes: GnuTLS signs with these and not with what is stated. */
function wholeRsaKey(der: Uint8Array): Uint8Array {
  const fields = DerReader.over(der, { what: 'RSA private key' }).sequence();
  const version = fields.element(TAG.integer);
  fields.element(TAG.integer);
  const [exponent, secret, p, q] = Array.from({ length: 4 }, () => fields.elementAndContent(TAG.integer));
  const rest = Array.from({ length: 3 }, () => fields.element(TAG.integer));
  fields.finish();
  if (exponent === undefined || secret === undefined || p === undefined || q === undefined) return der;
  const modulus = toInteger(toNumber(p.content) * toNumber(q.content));
  return sequence(version, modulus, exponent.der, secret.der, p.der, q.der, ...rest);
}

function toNumber(octets: Uint8Array): bigint {
  return octets.length === 0 || octets.length > 4096
    ? 0n
    : BigInt(`0x${Buffer.from(octets).toString('hex')}`);
}

function toInteger(value: bigint): Uint8Array {
  const hex = value.toString(16);
  const octets = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  return element(TAG.integer, ...((octets[0] ?? 0) >= 0x80 ? [Uint8Array.of(0)] : []), octets);
}

/** An ECPrivateKey (RFC 5915 §3) without its public half, which GnuTLS does not look at. */
function bareEcKey(der: Uint8Array): Uint8Array {
  const fields = DerReader.over(der, { what: 'EC private key' }).sequence();
  const version = fields.element(TAG.integer);
  const secret = fields.element(TAG.octetString);
  const tag = contextTag(0, 'constructed');
  const parameters = fields.nextIs(tag) ? [fields.element(tag)] : [];
  const publicTag = contextTag(1, 'constructed');
  if (fields.nextIs(publicTag)) {
    const wrapper = fields.enter(publicTag);
    wrapper.element(TAG.bitString);
    wrapper.finish();
  }
  fields.finish();
  return sequence(version, secret, ...parameters);
}

function refused(reason: string, encrypted: boolean): GnutlsKeyFile {
  return { kind: 'refused', reason, encrypted };
}

const SAMPLE = Buffer.from('x509 key');

/** Whether a key belongs to a certificate: what it signs verifies (_gnutls_check_key_cert_match). */
export function isKeyOf(key: KeyObject, certificateSpki: Uint8Array): boolean {
  const publicKey = readGnutlsKey(certificateSpki);
  if (publicKey === undefined || familyOf(publicKey) !== familyOf(key)) return false;
  const digest = ['ed25519', 'ed448'].includes(key.asymmetricKeyType ?? '') ? null : 'sha256';
  try {
    const padding =
      familyOf(key) === 'rsa' ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 20 } : {};
    return verify(digest, SAMPLE, { key: publicKey, ...padding }, sign(digest, SAMPLE, { key, ...padding }));
  } catch {
    return false;
  }
}

/** RSA and RSA-PSS are one kind to GnuTLS. */
function familyOf({ asymmetricKeyType }: KeyObject): string {
  return asymmetricKeyType === 'rsa-pss' ? 'rsa' : (asymmetricKeyType ?? '');
}
