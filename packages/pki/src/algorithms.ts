import { TrustError } from '@virt-trust/base/error.ts';
import { OID } from './der/oid.ts';
import { NULL, oid, sequence } from './der/writer.ts';

/** A signature algorithm: what node:crypto and the AlgorithmIdentifier need to know about it. */
export interface SignatureAlgorithm {
  readonly name: string;
  readonly oid: string;
  /** The digest given to node:crypto; null where the algorithm brings its own. */
  readonly digest: 'sha1' | 'sha256' | 'sha384' | 'sha512' | null;
  /** The family of keys that make it. */
  readonly keyFamily: 'ec' | 'ed25519' | 'rsa';
  /** The DER AlgorithmIdentifier, the only encoding that is accepted. */
  readonly identifier: Uint8Array;
}

function signature(
  name: string,
  algorithmOid: string,
  digest: SignatureAlgorithm['digest'],
  keyFamily: SignatureAlgorithm['keyFamily'],
): SignatureAlgorithm {
  // RFC 4055 §5: NULL parameters with RSA; RFC 5758 §3.2, RFC 8410 §3: none with ECDSA and Ed25519.
  const identifier = sequence(oid(algorithmOid), ...(keyFamily === 'rsa' ? [NULL] : []));
  return { name, oid: algorithmOid, digest, keyFamily, identifier };
}

const ECDSA_SHA256 = signature('ecdsa-sha256', OID.ecdsaWithSha256, 'sha256', 'ec');
const ECDSA_SHA384 = signature('ecdsa-sha384', OID.ecdsaWithSha384, 'sha384', 'ec');
const ECDSA_SHA512 = signature('ecdsa-sha512', OID.ecdsaWithSha512, 'sha512', 'ec');
const ED25519 = signature('ed25519', OID.ed25519, null, 'ed25519');
const RSA_SHA256 = signature('rsa-sha256', OID.sha256WithRsa, 'sha256', 'rsa');
const RSA_SHA384 = signature('rsa-sha384', OID.sha384WithRsa, 'sha384', 'rsa');
const RSA_SHA512 = signature('rsa-sha512', OID.sha512WithRsa, 'sha512', 'rsa');

// SECURITY: MD5 and SHA-1 are not in the table, so nothing signed with them verifies.
const SIGNATURES: readonly SignatureAlgorithm[] = [
  ECDSA_SHA256,
  ECDSA_SHA384,
  ECDSA_SHA512,
  ED25519,
  RSA_SHA256,
  RSA_SHA384,
  RSA_SHA512,
];

/**
 * `current`: what virt-trust trusts. `legacy` reads besides what others once signed, with SHA-1 or RSA keys from 1,024
 * bits on: to judge what was found, never to trust it.
 */
export type AlgorithmAge = 'current' | 'legacy';

const RSA_SHA1 = signature('rsa-sha1', OID.sha1WithRsa, 'sha1', 'rsa');
const LEGACY_SIGNATURES: readonly SignatureAlgorithm[] = [
  RSA_SHA1,
  // Old signers left out the NULL, against RFC 4055 §5.
  { ...RSA_SHA1, identifier: sequence(oid(OID.sha1WithRsa)) },
];

/** The signature algorithm with exactly this DER AlgorithmIdentifier, or undefined where it is not accepted. */
export function findSignatureAlgorithm(
  identifier: Uint8Array,
  age: AlgorithmAge = 'current',
): SignatureAlgorithm | undefined {
  const find = (list: readonly SignatureAlgorithm[]) =>
    list.find((candidate) => Buffer.compare(candidate.identifier, identifier) === 0);
  return find(SIGNATURES) ?? (age === 'legacy' ? find(LEGACY_SIGNATURES) : undefined);
}

/** A kind of key: how it is made, how it signs, and what its SubjectPublicKeyInfo looks like. */
export interface KeyAlgorithm {
  readonly name: string;
  readonly family: SignatureAlgorithm['keyFamily'];
  /** What keys of this kind sign with. */
  readonly signature: SignatureAlgorithm;
  /** The DER AlgorithmIdentifier of the SubjectPublicKeyInfo. */
  readonly identifier: Uint8Array;
  /** Bits of an RSA modulus at least, or octets of the public key exactly. */
  readonly size: { readonly kind: 'modulus-bits' | 'key-octets'; readonly value: number };
  /** Whether the key can decipher, which libvirt before 11.6 demands of a critical keyUsage. */
  readonly keyEncipherment: boolean;
  readonly generate:
    | { readonly type: 'ec'; readonly namedCurve: string }
    | { readonly type: 'ed25519' }
    | { readonly type: 'rsa'; readonly modulusLength: number };
}

const ecIdentifier = (curve: string) => sequence(oid(OID.ecPublicKey), oid(curve));
const RSA_IDENTIFIER = sequence(oid(OID.rsaEncryption), NULL);

function ec(name: string, curve: string, namedCurve: string, octets: number, signs: SignatureAlgorithm) {
  return {
    name,
    family: 'ec',
    signature: signs,
    identifier: ecIdentifier(curve),
    size: { kind: 'key-octets', value: octets },
    keyEncipherment: false,
    generate: { type: 'ec', namedCurve },
  } as const satisfies KeyAlgorithm;
}

function rsa(bits: number): KeyAlgorithm {
  return {
    name: `rsa-${bits}-sha256`,
    family: 'rsa',
    signature: RSA_SHA256,
    identifier: RSA_IDENTIFIER,
    size: { kind: 'modulus-bits', value: bits },
    keyEncipherment: true,
    generate: { type: 'rsa', modulusLength: bits },
  };
}

/** The kinds of key that virt-trust makes, signs with and accepts, by name. */
export const KEY_ALGORITHMS = {
  'ecdsa-p256-sha256': ec('ecdsa-p256-sha256', OID.prime256v1, 'P-256', 65, ECDSA_SHA256),
  'ecdsa-p384-sha384': ec('ecdsa-p384-sha384', OID.secp384r1, 'P-384', 97, ECDSA_SHA384),
  'ecdsa-p521-sha512': ec('ecdsa-p521-sha512', OID.secp521r1, 'P-521', 133, ECDSA_SHA512),
  ed25519: {
    name: 'ed25519',
    family: 'ed25519',
    signature: ED25519,
    identifier: ED25519.identifier,
    size: { kind: 'key-octets', value: 32 },
    keyEncipherment: false,
    generate: { type: 'ed25519' },
  },
  'rsa-4096-sha256': rsa(4096),
  'rsa-3072-sha256': rsa(3072),
  'rsa-2048-sha256': rsa(2048),
} as const satisfies Record<string, KeyAlgorithm>;

/** The name of a kind of key, as in settings and requests. */
export type KeyAlgorithmName = keyof typeof KEY_ALGORITHMS;

/** All kinds of key; those of RSA from the largest to the smallest. */
export const KEY_ALGORITHM_LIST: readonly KeyAlgorithm[] = Object.values(KEY_ALGORITHMS);

/** The kind of key with that name; throws `key.algorithm_unknown`. */
export function keyAlgorithm(name: string): KeyAlgorithm {
  const found = KEY_ALGORITHM_LIST.find((candidate) => candidate.name === name);
  if (found === undefined) {
    throw new TrustError(
      'key.algorithm_unknown',
      'invalid',
      `cannot use key algorithm ${JSON.stringify(name.slice(0, 60))}: not supported`,
      { hint: `Use one of ${Object.keys(KEY_ALGORITHMS).join(', ')}.` },
    );
  }
  return found;
}
