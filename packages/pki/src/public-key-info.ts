import { createPublicKey, hash, type KeyObject } from 'node:crypto';
import { TrustError } from '@virt-trust/base/error.ts';
import { pinOfSpki, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { KEY_ALGORITHM_LIST, type KeyAlgorithm } from './algorithms.ts';
import { DerReader } from './der/reader.ts';

/** A SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) whose form was checked. */
export interface PublicKeyInfo {
  /** The DER of the whole SubjectPublicKeyInfo. */
  readonly der: Uint8Array;
  /** The content of its BIT STRING. */
  readonly keyBits: Uint8Array;
  /** The kind of key, or the reason for which it is not accepted. */
  readonly algorithm:
    | { readonly kind: 'known'; readonly value: KeyAlgorithm }
    /** `legacy` names the family of a key that is only too short, for `AlgorithmAge` legacy. */
    | { readonly kind: 'refused'; readonly reason: string; readonly legacy?: KeyAlgorithm['family'] };
}

const MAX_RSA_BITS = 8192;

function rsaBits(keyBits: Uint8Array): { bits: number; exponent: Uint8Array } {
  const key = DerReader.over(keyBits, { what: 'RSA public key', maxBytes: 4096 });
  const pair = key.sequence();
  key.finish();
  const modulus = pair.integer();
  const exponent = pair.integer();
  pair.finish();
  if ((modulus[0] as number) >= 0x80 || (exponent[0] as number) >= 0x80) pair.fail('a negative RSA number');
  const from = modulus[0] === 0 ? 1 : 0;
  const top = modulus[from] ?? 0;
  return { bits: (modulus.length - from) * 8 - Math.clz32(top) + 24, exponent };
}

function refusedRsa(bits: number, exponent: Uint8Array): string | undefined {
  if (bits < 2048) return `RSA key of ${bits} bits, fewer than 2048`;
  if (bits > MAX_RSA_BITS) return `RSA key of ${bits} bits, more than ${MAX_RSA_BITS}`;
  const last = exponent[exponent.length - 1] ?? 0;
  const tiny = exponent.length === 1 && last < 3;
  return tiny || last % 2 === 0 ? 'RSA key with an unsafe exponent' : undefined;
}

function classify(identifier: Uint8Array, keyBits: Uint8Array): PublicKeyInfo['algorithm'] {
  for (const candidate of KEY_ALGORITHM_LIST) {
    if (Buffer.compare(candidate.identifier, identifier) !== 0) continue;
    if (candidate.size.kind === 'key-octets') {
      const uncompressed = candidate.family !== 'ec' || keyBits[0] === 0x04;
      return keyBits.length === candidate.size.value && uncompressed
        ? { kind: 'known', value: candidate }
        : { kind: 'refused', reason: `${candidate.name} key of a wrong size or form` };
    }
    const { bits, exponent } = rsaBits(keyBits);
    const reason = refusedRsa(bits, exponent);
    if (reason !== undefined) {
      return {
        kind: 'refused',
        reason,
        ...(bits >= 1024 && bits < 2048 ? { legacy: candidate.family } : {}),
      };
    }
    if (bits >= candidate.size.value) return { kind: 'known', value: candidate };
  }
  return { kind: 'refused', reason: 'key algorithm not supported' };
}

/** Parses a SubjectPublicKeyInfo; throws `der.malformed`. Whether the kind of key is accepted is in the result. */
export function parsePublicKeyInfo(der: Uint8Array): PublicKeyInfo {
  const reader = DerReader.over(der, { what: 'public key', maxBytes: 8192 });
  const info = reader.sequence();
  reader.finish();
  const identifier = info.element(0x30);
  const keyBits = info.bitStringOctets();
  info.finish();
  return { der, keyBits, algorithm: classify(identifier, keyBits) };
}

/** The kind of key; throws `key.refused` with the reason where it is not accepted. */
export function acceptedKeyAlgorithm(info: PublicKeyInfo, what: string): KeyAlgorithm {
  if (info.algorithm.kind === 'refused') {
    throw new TrustError('key.refused', 'invalid', `cannot use ${what}: ${info.algorithm.reason}`, {
      hint: 'Use an EC P-256 key, or RSA of at least 2048 bits.',
    });
  }
  return info.algorithm.value;
}

/** The key for node:crypto; throws `key.malformed` where it is no point of its curve or the like. */
export function publicKeyObject(spki: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch (cause) {
    throw new TrustError('key.malformed', 'invalid', 'cannot use public key: not a valid key of its kind', {
      cause,
    });
  }
}

/** The key identifier of a public key: the first 160 bits of SHA-256 over its BIT STRING (RFC 7093 §2 (1)). */
export function keyIdentifier(info: PublicKeyInfo): Uint8Array {
  return hash('sha256', info.keyBits, 'buffer').subarray(0, 20);
}

/** The pin of a public key. */
export function pinOf(info: PublicKeyInfo): SpkiPin {
  return pinOfSpki(info.der);
}
