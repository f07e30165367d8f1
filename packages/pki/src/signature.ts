import { type KeyObject, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { TrustError } from '@virt-trust/base/error.ts';
import { type AlgorithmAge, findSignatureAlgorithm, type SignatureAlgorithm } from './algorithms.ts';
import { acceptedKeyAlgorithm, type PublicKeyInfo, publicKeyObject } from './public-key-info.ts';

/** Signs with the resolved algorithm; ECDSA signatures come as DER (RFC 5480 appendix A). */
export function signBytes(bytes: Uint8Array, algorithm: SignatureAlgorithm, key: KeyObject): Uint8Array {
  return sign(algorithm.digest, bytes, key);
}

/** What a verified signature was made with. */
export interface VerifiedSignature {
  readonly algorithm: SignatureAlgorithm;
}

/** Something signed as X.509 signs: certificates, requests, CRLs, OCSP answers. */
export interface Signed {
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
}

const keys = new WeakMap<PublicKeyInfo, KeyObject>();

/** The public key for node:crypto, made once for each parsed key. */
function keyObjectOf(info: PublicKeyInfo): KeyObject {
  let key = keys.get(info);
  if (key === undefined) {
    key = publicKeyObject(info.der);
    keys.set(info, key);
  }
  return key;
}

const signOnThreadPool = promisify(sign) as (
  digest: string | null,
  bytes: Uint8Array,
  key: KeyObject,
) => Promise<Uint8Array>;
const verifyOnThreadPool = promisify(verify) as (
  digest: string | null,
  bytes: Uint8Array,
  key: KeyObject,
  signature: Uint8Array,
) => Promise<boolean>;

/** Like `signBytes`, on the thread pool, so that a server goes on meanwhile. */
export function signBytesOnPool(
  bytes: Uint8Array,
  algorithm: SignatureAlgorithm,
  key: KeyObject,
): Promise<Uint8Array> {
  return signOnThreadPool(algorithm.digest, bytes, key);
}

function resolveAlgorithm(
  signed: Signed,
  publicKey: PublicKeyInfo,
  what: string,
  age: AlgorithmAge,
): SignatureAlgorithm {
  const algorithm = findSignatureAlgorithm(signed.signatureAlgorithm, age);
  if (algorithm === undefined) {
    throw new TrustError(
      'signature.algorithm_refused',
      'invalid',
      `cannot verify ${what}: signature algorithm not accepted (SHA-1 and MD5 are not)`,
    );
  }
  const { algorithm: kind } = publicKey;
  const short = age === 'legacy' && kind.kind === 'refused' ? kind.legacy : undefined;
  const family = short ?? acceptedKeyAlgorithm(publicKey, `the key that signed ${what}`).family;
  // SECURITY: never let the key's own kind decide how the signature is read.
  if (family !== algorithm.keyFamily) throw wrong(what);
  return algorithm;
}

function wrong(what: string): TrustError {
  return new TrustError('signature.invalid', 'invalid', `cannot verify ${what}: the signature is wrong`);
}

/** Verifies the signature over `bytes`; throws `signature.algorithm_refused`, `key.refused` or `signature.invalid`. */
export function verifySignature(
  bytes: Uint8Array,
  signed: Signed,
  publicKey: PublicKeyInfo,
  what: string,
  age: AlgorithmAge = 'current',
): VerifiedSignature {
  const algorithm = resolveAlgorithm(signed, publicKey, what, age);
  if (!verify(algorithm.digest, bytes, keyObjectOf(publicKey), signed.signature)) throw wrong(what);
  return { algorithm };
}

/** Like `verifySignature`, on the thread pool, so that a server goes on meanwhile. */
export async function verifySignatureOnPool(
  bytes: Uint8Array,
  signed: Signed,
  publicKey: PublicKeyInfo,
  what: string,
): Promise<VerifiedSignature> {
  const algorithm = resolveAlgorithm(signed, publicKey, what, 'current');
  const good = await verifyOnThreadPool(algorithm.digest, bytes, keyObjectOf(publicKey), signed.signature);
  if (!good) throw wrong(what);
  return { algorithm };
}
