import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import { findBlock } from './pem.ts';
import { isKnownKey } from './signature.ts';

/** What became of a key file. */
export type GnutlsKeyFile =
  | { readonly kind: 'key'; readonly spki: Uint8Array }
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
    const key = createPrivateKey({ key: Buffer.from(block.der), format: 'der', type: FORMS[found.label] });
    if (!isKnownKey(key)) return refused('it is of a kind or on a curve that GnuTLS does not know', false);
    return { kind: 'key', spki: publicHalf(key) };
  } catch {
    return refused('it is not a valid key of its kind', false);
  }
}

function publicHalf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

function refused(reason: string, encrypted: boolean): GnutlsKeyFile {
  return { kind: 'refused', reason, encrypted };
}

/** Whether a key belongs to a certificate: the same public numbers; RSA and RSA-PSS are one kind to GnuTLS. */
export function isKeyOf(keySpki: Uint8Array, certificateSpki: Uint8Array): boolean {
  if (Buffer.compare(keySpki, certificateSpki) === 0) return true;
  const publicBits = (der: Uint8Array) => {
    const info = DerReader.over(der, { what: 'public key' }).sequence();
    info.element();
    return info.bitStringOctets();
  };
  const comparable = [keySpki, certificateSpki].every((der) => {
    const type = createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' }).asymmetricKeyType;
    return type === 'rsa' || type === 'rsa-pss';
  });
  return comparable && Buffer.compare(publicBits(keySpki), publicBits(certificateSpki)) === 0;
}
