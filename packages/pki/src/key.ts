import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { TrustError } from '@virt-trust/base/error.ts';
import { pinMatches, pinOfKey, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { type KeyAlgorithm, type KeyAlgorithmName, keyAlgorithm } from './algorithms.ts';
import { decodePem, encodePem } from './pem.ts';
import { acceptedKeyAlgorithm, parsePublicKeyInfo } from './public-key-info.ts';

const generate = promisify(generateKeyPair) as unknown as (
  type: string,
  options: object,
) => Promise<{ privateKey: KeyObject }>;

const MAX_KEY_CHARACTERS = 64 * 1024;

/** A new private key of the named kind; the public half is in it. */
export async function generatePrivateKey(name: KeyAlgorithmName): Promise<KeyObject> {
  const { type, ...options } = keyAlgorithm(name).generate;
  return (await generate(type, options)).privateKey;
}

/** The DER SubjectPublicKeyInfo of a key, private or public. */
export function spkiOfKey(key: KeyObject): Uint8Array {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return publicKey.export({ type: 'spki', format: 'der' });
}

/** The kind of a key; throws `key.refused` where it is not accepted. */
export function algorithmOfKey(key: KeyObject): KeyAlgorithm {
  return acceptedKeyAlgorithm(parsePublicKeyInfo(spkiOfKey(key)), 'key');
}

/** PKCS#8 PEM without a password (RFC 5958, RFC 7468 §10), as libvirt and QEMU read it. */
export function encodePrivateKeyPem(key: KeyObject): string {
  return encodePem('PRIVATE KEY', key.export({ type: 'pkcs8', format: 'der' }));
}

const LABELS: Readonly<Record<string, 'pkcs8' | 'sec1' | 'pkcs1'>> = {
  'PRIVATE KEY': 'pkcs8',
  'EC PRIVATE KEY': 'sec1',
  'RSA PRIVATE KEY': 'pkcs1',
};

function malformedKey(reason: string, cause?: unknown): TrustError {
  return new TrustError('key.malformed', 'invalid', `cannot read private key: ${reason}`, {
    hint: 'Give one PEM private key without a password.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Parses the one private key of a PEM text: PKCS#8, SEC 1 or PKCS#1, no password; throws `key.malformed`. */
export function parsePrivateKeyPem(text: string): KeyObject {
  const blocks = decodePem(text, { maxCharacters: MAX_KEY_CHARACTERS, maxBlocks: 16 });
  if (blocks.some((block) => block.label === 'ENCRYPTED PRIVATE KEY'))
    throw malformedKey('it has a password');
  const keys = blocks.filter((block) => LABELS[block.label] !== undefined);
  const [block] = keys;
  if (block === undefined) throw malformedKey('no private key in it');
  if (keys.length > 1) throw malformedKey('more than one private key in it');
  const type = LABELS[block.label] as 'pkcs8' | 'sec1' | 'pkcs1';
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: Buffer.from(block.bytes), format: 'der', type });
  } catch (cause) {
    throw malformedKey(`the block of line ${block.line} is not a valid key`, cause);
  }
  algorithmOfKey(key);
  return key;
}

/** Whether the private key belongs to the certificate (or request) with that pin. */
export function keyMatchesCertificate(key: KeyObject, certificate: { readonly pin: SpkiPin }): boolean {
  return pinMatches(pinOfKey(key), [certificate.pin]);
}
