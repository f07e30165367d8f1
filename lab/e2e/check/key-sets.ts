import { createECDH, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { TAG } from '@virt-trust/pki/der/reader.ts';
import {
  bitString,
  element,
  explicit,
  octetString,
  oid,
  sequence,
  smallInteger,
} from '@virt-trust/pki/der/writer.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { basicConstraints, keyPem, keyUsage, make, names, purposes } from './maker.ts';
import type { OwnSet } from './own-set.ts';

const CA_USE = [basicConstraints(true), keyUsage(['keyCertSign', 'cRLSign'], true)];
const LEAF = [
  basicConstraints(false),
  keyUsage(['digitalSignature', 'keyEncipherment'], true),
  purposes([OID.serverAuth], true),
  names([2, 'host.example']),
];
const root = make({ subject: 'O=lab,CN=rsa root', key: 'rsa', extensions: CA_USE });
const P256 = oid('1.2.840.10045.3.1.7');
/** NIST P-256 written out (RFC 3279 §2.3.5), as OpenSSL does on demand. */
const WRITTEN_OUT = Buffer.from(
  '3081f7020101302c06072a8648ce3d0101022100ffffffff00000001000000000000000000000000ffffffffffffffffffffffff' +
    '305b0420ffffffff00000001000000000000000000000000fffffffffffffffffffffffc04205ac635d8aa3a93e7b3ebbd55769886' +
    'bc651d06b0cc53b0f63bce3c3e27d2604b031500c49d360886e704936a6678e1139d26b7819f7e900441046b17d1f2e12c4247f8bc' +
    'e6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51' +
    'f5022100ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101',
  'hex',
);
const pair = createECDH('prime256v1');
pair.generateKeys();
const half = (form: 'compressed' | 'uncompressed') => bitString(pair.getPublicKey(null, form));
const algorithm = (curve: Uint8Array) => sequence(oid('1.2.840.10045.2.1'), curve);
const PUBLIC = sequence(algorithm(P256), half('uncompressed'));

/** An ECPrivateKey (RFC 5915 §3). */
function ecKey(curve: Uint8Array | undefined, form: 'compressed' | 'uncompressed' | 'none'): Uint8Array {
  const own = pair.getPrivateKey();
  const secret = Buffer.alloc(32);
  own.copy(secret, 32 - own.length);
  return sequence(
    smallInteger(1),
    octetString(secret),
    ...(curve === undefined ? [] : [explicit(0, curve)]),
    ...(form === 'none' ? [] : [explicit(1, half(form))]),
  );
}

const sec1 = (key: Uint8Array) => encodePem('EC PRIVATE KEY', key);
const pkcs8 = (key: Uint8Array, curve: Uint8Array = P256) =>
  encodePem(
    'PRIVATE KEY',
    sequence(element(TAG.integer, Uint8Array.of(0)), algorithm(curve), octetString(key)),
  );
const WHOLE = sec1(ecKey(P256, 'uncompressed'));

function set(name: string, cert: string, key: string, ca = root.pem): OwnSet {
  return { name, role: 'server', ca, cert, key };
}

function withKey(name: string, key: string, publicKey: Uint8Array = PUBLIC): OwnSet {
  return set(name, make({ issuer: root, publicKey, extensions: LEAF }).pem, key);
}

/** A set of a key that node:crypto made. */
function made(
  name: string,
  { privateKey, publicKey }: { privateKey: KeyObject; publicKey: KeyObject },
): OwnSet {
  return withKey(name, keyPem(privateKey), publicKey.export({ type: 'spki', format: 'der' }));
}

function boundToPss(hashAlgorithm: string, mgf1HashAlgorithm: string, saltLength: number) {
  const options = { modulusLength: 2048, hashAlgorithm, mgf1HashAlgorithm };
  // Node's types call the number a string.
  return generateKeyPairSync('rsa-pss', { ...options, saltLength: saltLength as unknown as string });
}

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const RSA_PUBLIC = rsa.publicKey.export({ type: 'spki', format: 'der' });
const underPassword = (passphrase: string, cipher: string) =>
  rsa.privateKey.export({ type: 'pkcs8', format: 'pem', cipher, passphrase }).toString();
const x25519 = generateKeyPairSync('x25519');
const compressedRoot = make({
  subject: 'O=lab,CN=compressed',
  publicKey: sequence(algorithm(P256), half('compressed')),
  extensions: CA_USE,
});

/** Forms of keys and signatures that OpenSSL and Java write, and GnuTLS reads or not. */
export const KEY_SETS: readonly OwnSet[] = [
  withKey('EC key, whole', WHOLE),
  withKey('EC key, whole, PKCS#8', pkcs8(ecKey(undefined, 'uncompressed'))),
  withKey('EC key without its public half', sec1(ecKey(P256, 'none'))),
  withKey('EC key without its public half, PKCS#8', pkcs8(ecKey(undefined, 'none'))),
  withKey('EC key, compressed', sec1(ecKey(P256, 'compressed'))),
  withKey('EC key, compressed, PKCS#8', pkcs8(ecKey(undefined, 'compressed'))),
  withKey('EC key, curve written out', sec1(ecKey(WRITTEN_OUT, 'uncompressed'))),
  withKey('EC key, curve written out, PKCS#8', pkcs8(ecKey(undefined, 'uncompressed'), WRITTEN_OUT)),
  withKey('EC certificate, compressed', WHOLE, sequence(algorithm(P256), half('compressed'))),
  withKey('EC certificate, curve written out', WHOLE, sequence(algorithm(WRITTEN_OUT), half('uncompressed'))),
  set(
    'EC authority, compressed',
    make({ issuer: compressedRoot, publicKey: PUBLIC }).pem,
    WHOLE,
    compressedRoot.pem,
  ),
  ...[0, 20, 32, 33, 222].map((pssSalt) =>
    set(
      `PSS under a plain RSA key, salt ${pssSalt}`,
      make({ issuer: root, publicKey: PUBLIC, pssSalt }).pem,
      WHOLE,
    ),
  ),
  made('PSS key bound to SHA-256 and salt 32', boundToPss('sha256', 'sha256', 32)),
  made('PSS key bound to SHA-256 and salt 20', boundToPss('sha256', 'sha256', 20)),
  made('PSS key bound to SHA-512 and salt 64', boundToPss('sha512', 'sha512', 64)),
  made('PSS key bound to two hashes', boundToPss('sha256', 'sha1', 32)),
  ...['aes-128-cbc', 'aes-256-cbc', 'des-ede3-cbc', 'camellia-128-cbc'].map((cipher) =>
    withKey(`key under the empty password, ${cipher}`, underPassword('', cipher), RSA_PUBLIC),
  ),
  withKey('key under a password', underPassword('secret', 'aes-128-cbc'), RSA_PUBLIC),
  withKey('key under the empty password, of another', underPassword('', 'aes-128-cbc')),
  made('X25519', x25519),
  withKey('X25519 key, RSA certificate', keyPem(x25519.privateKey), RSA_PUBLIC),
];
