import assert from 'node:assert/strict';
import { createECDH, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { test } from 'node:test';
import { TAG } from '@virt-trust/pki/der/reader.ts';
import { element, explicit, octetString, sequence, smallInteger } from '@virt-trust/pki/der/writer.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { isAlgorithmOf, isKeyOf, readGnutlsPrivateKey } from './private-key.ts';

const P256 = Buffer.from('06082a8648ce3d030107', 'hex');
const EC_ALGORITHM = sequence(Buffer.from('06072a8648ce3d0201', 'hex'), P256);
const ec = createECDH('prime256v1');
ec.generateKeys();
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });

function spkiOf(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' });
}

function secret(...more: Uint8Array[]): Uint8Array {
  const octets = Buffer.alloc(32);
  const own = ec.getPrivateKey();
  own.copy(octets, 32 - own.length);
  return sequence(smallInteger(1), octetString(octets), ...more);
}

function publicHalf(form: 'compressed' | 'uncompressed'): Uint8Array {
  return explicit(1, element(TAG.bitString, Uint8Array.of(0), ec.getPublicKey(null, form)));
}

function inPkcs8(inner: Uint8Array): string {
  return encodePem('PRIVATE KEY', sequence(smallInteger(0), EC_ALGORITHM, octetString(inner)));
}

test('RFC 5915 §3: an EC key needs its public half, in full, and its curve by name', () => {
  const whole = publicHalf('uncompressed');
  const kindOf = (text: string) => readGnutlsPrivateKey(text).kind;
  const sec1 = (...more: Uint8Array[]) => kindOf(encodePem('EC PRIVATE KEY', secret(...more)));
  assert.equal(sec1(explicit(0, P256), whole), 'key');
  assert.equal(kindOf(inPkcs8(secret(whole))), 'key');
  assert.equal(sec1(explicit(0, P256)), 'refused');
  assert.equal(sec1(explicit(0, P256), publicHalf('compressed')), 'refused');
  assert.equal(sec1(explicit(0, sequence(smallInteger(1))), whole), 'refused');
  assert.equal(kindOf(inPkcs8(secret())), 'refused');
  assert.equal(kindOf(inPkcs8(secret(publicHalf('compressed')))), 'refused');
});

test('RFC 8018 §6.2: a key under the empty password is read, one under another is not', () => {
  const encrypted = (passphrase: string, cipher: string) =>
    rsa.privateKey.export({ format: 'pem', type: 'pkcs8', cipher, passphrase }).toString();
  for (const cipher of ['aes-128-cbc', 'aes-256-cbc', 'des-ede3-cbc']) {
    const read = readGnutlsPrivateKey(encrypted('', cipher));
    assert.ok(read.kind === 'key' && isKeyOf(read.key, spkiOf(rsa.publicKey)), cipher);
  }
  assert.deepEqual(readGnutlsPrivateKey(encrypted('secret', 'aes-128-cbc')), {
    kind: 'refused',
    reason: 'it has a password',
    encrypted: true,
  });
  assert.equal(readGnutlsPrivateKey(encrypted('', 'camellia-128-cbc')).kind, 'refused');
});

test('a key under the empty password with a count of iterations to hang on is refused unread', () => {
  const octets = (hex: string) => Buffer.from(hex, 'hex');
  const derivation = sequence(
    octets('06092a864886f70d01050c'),
    sequence(octetString(Buffer.alloc(8)), octets('02047fffffff')),
  );
  const cipher = sequence(octets('060960864801650304012a'), octetString(Buffer.alloc(16)));
  const scheme = sequence(octets('06092a864886f70d01050d'), sequence(derivation, cipher));
  const text = encodePem('ENCRYPTED PRIVATE KEY', sequence(scheme, octetString(Buffer.alloc(64))));
  assert.equal(readGnutlsPrivateKey(text).kind, 'refused');
});

test('keys that cannot sign are loaded, and compared with the certificate by their kind alone', () => {
  const x25519 = generateKeyPairSync('x25519');
  const read = readGnutlsPrivateKey(x25519.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString());
  assert.ok(read.kind === 'mute');
  assert.equal(isAlgorithmOf(read.algorithm, spkiOf(x25519.publicKey)), true);
  assert.equal(isAlgorithmOf(read.algorithm, spkiOf(rsa.publicKey)), false);
});

test('RFC 4055 §3.1: a PSS key is used where the salt that it is bound to is no shorter than 32', () => {
  const judge = (hashAlgorithm: string, mgf1HashAlgorithm: string, saltLength: number) => {
    const pair = generateKeyPairSync('rsa-pss', {
      modulusLength: 2048,
      hashAlgorithm,
      mgf1HashAlgorithm,
      // Node's types call the number a string.
      saltLength: saltLength as unknown as string,
    });
    const read = readGnutlsPrivateKey(pair.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString());
    return read.kind === 'key' && isKeyOf(read.key, spkiOf(pair.publicKey));
  };
  assert.equal(judge('sha256', 'sha256', 32), true);
  assert.equal(judge('sha512', 'sha512', 64), true);
  assert.equal(judge('sha256', 'sha256', 20), false);
  assert.equal(judge('sha256', 'sha1', 32), true);
});
