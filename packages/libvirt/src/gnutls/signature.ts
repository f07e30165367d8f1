import { constants, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { contextTag, DerReader, TAG } from '@virt-trust/pki/der/reader.ts';

type KeyType = 'rsa' | 'rsa-pss' | 'ec' | 'ed25519' | 'ed448' | 'dsa';

interface Algorithm {
  readonly key: KeyType;
  readonly digest: string | null;
  /** Whether GnuTLS takes it for certificates: MD5 and SHA-1 only where a root signs itself. */
  readonly secure: boolean;
}

function rsa(digest: string, secure = true): Algorithm {
  return { key: 'rsa', digest, secure };
}

function ec(digest: string, secure = true): Algorithm {
  return { key: 'ec', digest, secure };
}

/** The signature algorithms that GnuTLS knows (lib/algorithms/sign.c). */
const ALGORITHMS: Readonly<Record<string, Algorithm>> = {
  '1.2.840.113549.1.1.2': rsa('md2', false),
  '1.2.840.113549.1.1.4': rsa('md5', false),
  '1.2.840.113549.1.1.5': rsa('sha1', false),
  '1.3.14.3.2.29': rsa('sha1', false),
  '1.2.840.113549.1.1.14': rsa('sha224'),
  '1.2.840.113549.1.1.11': rsa('sha256'),
  '1.2.840.113549.1.1.12': rsa('sha384'),
  '1.2.840.113549.1.1.13': rsa('sha512'),
  '2.16.840.1.101.3.4.3.14': rsa('sha3-256'),
  '2.16.840.1.101.3.4.3.15': rsa('sha3-384'),
  '2.16.840.1.101.3.4.3.16': rsa('sha3-512'),
  '1.2.840.113549.1.1.10': { key: 'rsa-pss', digest: null, secure: true },
  '1.2.840.10045.4.1': ec('sha1', false),
  '1.2.840.10045.4.3.1': ec('sha224'),
  '1.2.840.10045.4.3.2': ec('sha256'),
  '1.2.840.10045.4.3.3': ec('sha384'),
  '1.2.840.10045.4.3.4': ec('sha512'),
  '2.16.840.1.101.3.4.3.10': ec('sha3-256'),
  '2.16.840.1.101.3.4.3.11': ec('sha3-384'),
  '2.16.840.1.101.3.4.3.12': ec('sha3-512'),
  '1.2.840.10040.4.3': { key: 'dsa', digest: 'sha1', secure: false },
  '2.16.840.1.101.3.4.3.1': { key: 'dsa', digest: 'sha224', secure: true },
  '2.16.840.1.101.3.4.3.2': { key: 'dsa', digest: 'sha256', secure: true },
  '1.3.101.112': { key: 'ed25519', digest: null, secure: true },
  '1.3.101.113': { key: 'ed448', digest: null, secure: true },
};

/** The curves that GnuTLS knows, by OpenSSL's names. */
const CURVES: readonly string[] = ['prime192v1', 'secp224r1', 'prime256v1', 'secp384r1', 'secp521r1'];

const DIGESTS: Readonly<Record<string, string>> = {
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};

const HASH_LENGTHS: Readonly<Record<string, number>> = { sha256: 32, sha384: 48, sha512: 64 };

/** A public key of a kind and form that GnuTLS knows, undefined for another. */
export function readGnutlsKey(spki: Uint8Array): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
    if (key.asymmetricKeyType === 'ec' && !isPlainEcKey(spki)) return undefined;
    return isKnownKey(key) ? key : undefined;
  } catch {
    return undefined;
  }
}

/** Whether GnuTLS knows keys of this kind, private or public. */
export function isKnownKey({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): boolean {
  if (asymmetricKeyType === 'ec') return CURVES.includes(asymmetricKeyDetails?.namedCurve ?? '');
  return ['rsa', 'rsa-pss', 'ed25519', 'ed448', 'dsa'].includes(asymmetricKeyType ?? '');
}

/** The curve by its name and the point in full: OpenSSL takes parameters written out and compressed points as well. */
function isPlainEcKey(spki: Uint8Array): boolean {
  const fields = DerReader.over(spki, { what: 'public key' }).sequence();
  const algorithm = fields.sequence();
  algorithm.oid();
  return algorithm.nextIs(TAG.oid) && isWholePoint(fields.content(TAG.bitString));
}

/** Whether the content of a BIT STRING is a point in full (SEC 1 §2.3.3), the one form that GnuTLS reads. */
export function isWholePoint(bits: Uint8Array): boolean {
  return bits[0] === 0 && bits[1] === 0x04;
}

/** What GnuTLS makes of a signature under an issuer's key. */
export type SignatureVerdict = 'good' | 'insecure' | 'wrong' | 'unknown-algorithm';

/** Verifies a signature as GnuTLS does for certificates (_gnutls_x509_verify_data). */
export function verifyGnutlsSignature(
  signed: {
    readonly tbs: Uint8Array;
    readonly signatureAlgorithm: Uint8Array;
    readonly signature: Uint8Array;
  },
  issuerSpki: Uint8Array,
): SignatureVerdict {
  const { oid, parameters } = readAlgorithm(signed.signatureAlgorithm);
  const algorithm = ALGORITHMS[oid];
  if (algorithm === undefined) return 'unknown-algorithm';
  const key = readGnutlsKey(issuerSpki);
  if (key === undefined || !fits(key, algorithm.key)) return 'wrong';
  if (!algorithm.secure) return 'insecure';
  const pss = algorithm.key === 'rsa-pss' ? readPss(parameters) : undefined;
  if (algorithm.key === 'rsa-pss' && pss === undefined) return 'wrong';
  // Under a key that is not bound to PSS the salt has the length of the hash, or the signature does not count.
  if (pss !== undefined && key.asymmetricKeyType === 'rsa' && pss.saltLength !== HASH_LENGTHS[pss.digest])
    return 'wrong';
  try {
    const good = verify(
      pss?.digest ?? algorithm.digest,
      signed.tbs,
      pss === undefined ? key : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: pss.saltLength },
      signed.signature,
    );
    return good ? 'good' : 'wrong';
  } catch {
    return 'wrong';
  }
}

/** Whether GnuTLS takes the algorithm for certificates at all. */
export function isSecureAlgorithm(signatureAlgorithm: Uint8Array): boolean {
  return ALGORITHMS[readAlgorithm(signatureAlgorithm).oid]?.secure === true;
}

function fits({ asymmetricKeyType }: KeyObject, wanted: KeyType): boolean {
  return asymmetricKeyType === wanted || (wanted === 'rsa-pss' && asymmetricKeyType === 'rsa');
}

/** An AlgorithmIdentifier; one that is malformed is one that nobody knows. */
function readAlgorithm(der: Uint8Array): { oid: string; parameters: Uint8Array | undefined } {
  try {
    const fields = DerReader.over(der, { what: 'signature algorithm' }).sequence();
    return { oid: fields.oid(), parameters: fields.done ? undefined : fields.element() };
  } catch {
    return { oid: '', parameters: undefined };
  }
}

/** MGF1 (RFC 8017 B.2.1) with the digest of the signature, the one mask that GnuTLS makes. */
function isMaskOf(mask: DerReader, digest: string | undefined): boolean {
  mask.oid();
  return DIGESTS[mask.sequence().oid()] === digest;
}

/** RSASSA-PSS-params (RFC 4055 §3.1); SHA-1, its default, is refused anyway. */
function readPss(parameters: Uint8Array | undefined): { digest: string; saltLength: number } | undefined {
  if (parameters === undefined) return undefined;
  try {
    const fields = DerReader.over(parameters, { what: 'PSS parameters' }).sequence();
    const hashTag = contextTag(0, 'constructed');
    if (!fields.nextIs(hashTag)) return undefined;
    const digest = DIGESTS[fields.enter(hashTag).sequence().oid()];
    let saltLength = 20;
    // Left out it is MGF1 with SHA-1.
    let sameMask = false;
    while (!fields.done) {
      const tag = fields.nextTag();
      const field = fields.enter(tag);
      if (tag === contextTag(1, 'constructed')) sameMask = isMaskOf(field.sequence(), digest);
      if (tag === contextTag(2, 'constructed')) saltLength = field.smallInteger(TAG.integer);
    }
    return digest === undefined || !sameMask ? undefined : { digest, saltLength };
  } catch {
    return undefined;
  }
}
