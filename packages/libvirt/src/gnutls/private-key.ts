import { constants, createPrivateKey, type KeyObject, sign, verify } from 'node:crypto';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { contextTag, DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import { element, octetString, sequence } from '@virt-trust/pki/der/writer.ts';
import { findBlock } from './pem.ts';
import { isKnownKey, isWholePoint, readGnutlsKey } from './signature.ts';

/** What became of a key file. */
export type GnutlsKeyFile =
  | { readonly kind: 'key'; readonly key: KeyObject }
  /** It is loaded, and no handshake can be signed with it. */
  | { readonly kind: 'mute'; readonly algorithm: string; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly encrypted: boolean };

const ENCRYPTED = 'ENCRYPTED PRIVATE KEY';
const PBES2 = '1.2.840.113549.1.5.13';
const PBKDF2 = '1.2.840.113549.1.5.12';
/** AES of its three key sizes and triple DES, each with CBC. */
const BLOCK_CIPHERS = [
  '2.16.840.1.101.3.4.1.2',
  '2.16.840.1.101.3.4.1.22',
  '2.16.840.1.101.3.4.1.42',
  '1.2.840.113549.3.7',
];
const MAX_ITERATIONS = 4_000_000;
/** X25519 and X448 (RFC 8410 §3). */
const AGREEMENT_ALONE = ['1.3.101.110', '1.3.101.111'];
const MULTI_PRIME = 'it has more than two primes, and GnuTLS cannot sign with it';

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
    const encrypted = findBlock(text, ENCRYPTED);
    if (encrypted.kind === 'none') return refused('there is no private key in it', false);
    const open = encrypted.kind === 'found' ? decryptWithoutPassword(encrypted.der) : undefined;
    return open === undefined ? refused('it has a password', true) : readBlock(open, 'PRIVATE KEY');
  }
  const block = findBlock(text, found.label, found.at);
  if (block.kind !== 'found') {
    const encrypted = text.slice(found.at, found.at + 200).includes('ENCRYPTED');
    return refused(encrypted ? 'it has a password' : 'its block cannot be read', encrypted);
  }
  return readBlock(block.der, found.label);
}

function readBlock(der: Uint8Array, label: keyof typeof FORMS): GnutlsKeyFile {
  try {
    // GnuTLS takes no octet more than the key.
    const reader = DerReader.over(der, { what: 'private key' });
    const fields = reader.sequence();
    reader.finish();
    // Nor does it look whether the key has the form of another label.
    fields.element(TAG.integer);
    fields.element(SECOND_FIELD[label]);
    const mute = readMute(der, label);
    if (mute !== undefined) return mute;
    const key = readKey(der, FORMS[label]);
    if (!isKnownKey(key)) return refused('it is of a kind or on a curve that GnuTLS does not know', false);
    return { kind: 'key', key };
  } catch (error) {
    return refused(error instanceof EcFormError ? error.message : 'it is not a valid key of its kind', false);
  }
}

/** What GnuTLS loads and cannot sign with, as it finds out in handshakes. */
function readMute(der: Uint8Array, label: keyof typeof FORMS): GnutlsKeyFile | undefined {
  const fields = DerReader.over(der, { what: 'private key' }).sequence();
  const version = fields.smallInteger(TAG.integer);
  if (label === 'EC PRIVATE KEY') return undefined;
  if (label === 'RSA PRIVATE KEY') return version === 1 ? mute(OID.rsaEncryption, MULTI_PRIME) : undefined;
  const algorithm = fields.sequence().oid();
  if (AGREEMENT_ALONE.includes(algorithm)) return mute(algorithm, 'it is for key agreement and cannot sign');
  return algorithm === OID.rsaEncryption
    ? readMute(fields.content(TAG.octetString), 'RSA PRIVATE KEY')
    : undefined;
}

function mute(algorithm: string, reason: string): GnutlsKeyFile {
  return { kind: 'mute', algorithm, reason };
}

/** Whether such a key and a certificate are of one kind, which is all that GnuTLS can tell. */
export function isAlgorithmOf(algorithm: string, certificateSpki: Uint8Array): boolean {
  return DerReader.over(certificateSpki, { what: 'public key' }).sequence().sequence().oid() === algorithm;
}

/** PKCS #8 in PBES2 (RFC 8018 §6.2) under the empty password, which GnuTLS tries where it was given none. */
function decryptWithoutPassword(der: Uint8Array): Uint8Array | undefined {
  try {
    const scheme = DerReader.over(der, { what: 'encrypted key' }).sequence().sequence();
    if (scheme.oid() !== PBES2) return undefined;
    const parameters = scheme.sequence();
    const derivation = parameters.sequence();
    if (derivation.oid() !== PBKDF2) return undefined;
    const details = derivation.sequence();
    details.content(TAG.octetString);
    // SECURITY: the count is a stranger's, and each takes its time.
    if (details.smallInteger(TAG.integer) > MAX_ITERATIONS) return undefined;
    if (!BLOCK_CIPHERS.includes(parameters.sequence().oid())) return undefined;
    const pem = `-----BEGIN ${ENCRYPTED}-----\n${Buffer.from(der).toString('base64')}\n-----END ${ENCRYPTED}-----\n`;
    const key = createPrivateKey({ key: pem, format: 'pem', passphrase: '' });
    return key.export({ format: 'der', type: 'pkcs8' });
  } catch {
    return undefined;
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
  const identifier = DerReader.over(algorithm, { what: 'private key' }).sequence();
  const kind = identifier.oid();
  // Attributes.
  if (fields.nextIs(contextTag(0, 'constructed'))) fields.element();
  fields.finish();
  let whole = der;
  if (kind === OID.ecPublicKey && !identifier.nextIs(TAG.oid))
    throw new EcFormError('it writes out its curve instead of naming it, which GnuTLS does not read');
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

/** A key that OpenSSL reads and GnuTLS does not. */
class EcFormError extends Error {}

/**
 * An ECPrivateKey (RFC 5915 §3) without its public half: GnuTLS demands that there is one, a point in full, and does not
 * look whether it belongs to the secret.
 */
function bareEcKey(der: Uint8Array): Uint8Array {
  const fields = DerReader.over(der, { what: 'EC private key' }).sequence();
  const version = fields.element(TAG.integer);
  const secret = fields.element(TAG.octetString);
  const tag = contextTag(0, 'constructed');
  const parameters = fields.nextIs(tag) ? [fields.element(tag)] : [];
  if (parameters.some((each) => !DerReader.over(each, { what: 'EC parameters' }).enter(tag).nextIs(TAG.oid)))
    throw new EcFormError('it writes out its curve instead of naming it, which GnuTLS does not read');
  const publicTag = contextTag(1, 'constructed');
  if (!fields.nextIs(publicTag))
    throw new EcFormError('it lacks its public half, without which GnuTLS reads no EC key');
  const wrapper = fields.enter(publicTag);
  if (!isWholePoint(wrapper.content(TAG.bitString)))
    throw new EcFormError('its public half is compressed, which GnuTLS does not read');
  wrapper.finish();
  fields.finish();
  return sequence(version, secret, ...parameters);
}

function refused(reason: string, encrypted: boolean): GnutlsKeyFile {
  return { kind: 'refused', reason, encrypted };
}

/** With a PSS key that is bound to a shorter salt GnuTLS makes signatures that do not verify. */
const SHORTEST_SALT = 32;
const SAMPLE = Buffer.from('x509 key');

/** Whether a key belongs to a certificate: what it signs verifies (_gnutls_check_key_cert_match). */
export function isKeyOf(key: KeyObject, certificateSpki: Uint8Array): boolean {
  const publicKey = readGnutlsKey(certificateSpki);
  if (publicKey === undefined || familyOf(publicKey) !== familyOf(key)) return false;
  const hash = publicKey.asymmetricKeyDetails?.hashAlgorithm ?? 'sha256';
  const digest = ['ed25519', 'ed448'].includes(key.asymmetricKeyType ?? '') ? null : hash;
  try {
    const bound = publicKey.asymmetricKeyDetails;
    if (bound?.saltLength !== undefined && bound.saltLength < SHORTEST_SALT) return false;
    const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: bound?.saltLength ?? 20 };
    const padding = familyOf(key) === 'rsa' ? pss : {};
    return verify(digest, SAMPLE, { key: publicKey, ...padding }, sign(digest, SAMPLE, { key, ...padding }));
  } catch {
    return false;
  }
}

/** RSA and RSA-PSS are one kind to GnuTLS. */
function familyOf({ asymmetricKeyType }: KeyObject): string {
  return asymmetricKeyType === 'rsa-pss' ? 'rsa' : (asymmetricKeyType ?? '');
}
