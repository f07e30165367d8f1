import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { inspect } from 'node:util';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { pinOfKey, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { encodePrivateKeyPem, generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { encodeWrapperCertificate } from '@virt-trust/pki/wrapper.ts';
import type { ChannelRole } from './alpn.ts';
import { PinSet } from './pins.ts';

/** One side's own key pair with the self-signed certificate that carries it; printing one never shows the key. */
export class ChannelIdentity<Role extends ChannelRole = ChannelRole> {
  readonly role: Role;
  readonly pin: SpkiPin;
  readonly certificatePem: string;
  // SECURITY: a private field, so that neither util.inspect nor JSON.stringify nor a spread can show it.
  readonly #privateKeyPem: string;

  constructor(role: Role, pin: SpkiPin, certificatePem: string, privateKeyPem: string) {
    this.role = role;
    this.pin = pin;
    this.certificatePem = certificatePem;
    this.#privateKeyPem = privateKeyPem;
  }

  /** PKCS #8 in PEM; a secret, for the TLS library and the owner's own storage only. */
  get privateKeyPem(): string {
    return this.#privateKeyPem;
  }

  /** The set that holds this identity's own pin. */
  asPinSet(): PinSet<Role> {
    return new PinSet(this.role, [this.pin]);
  }

  toJSON(): { role: Role; pin: SpkiPin } {
    return { role: this.role, pin: this.pin };
  }

  [inspect.custom](): string {
    return `ChannelIdentity { role: '${this.role}', pin: '${this.pin}' }`;
  }
}

/** Makes an EC P-256 key and wraps it in a self-signed certificate that never expires (RFC 5280 §4.1.2.5). */
export async function createChannelIdentity<Role extends ChannelRole>(parts: {
  readonly role: Role;
  readonly randomness: Randomness;
}): Promise<ChannelIdentity<Role>> {
  const { role, randomness } = parts;
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const certificate = encodeWrapperCertificate({ key, subjectCommonName: `virt-trust ${role}`, randomness });
  return new ChannelIdentity(
    role,
    pinOfKey(key),
    encodePem('CERTIFICATE', certificate),
    encodePrivateKeyPem(key),
  );
}

const ONE_CERTIFICATE = /^\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*$/;
/** Far above what a P-256 key and its certificate need. */
const MAX_PEM_LENGTH = 16_384;

/**
 * Reads a stored identity back: one certificate and its P-256 private key, both in PEM. Names and dates are not
 * looked at. Throws `channel.identity_malformed`, which never quotes what it read.
 */
export function loadChannelIdentity<Role extends ChannelRole>(stored: {
  readonly role: Role;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}): ChannelIdentity<Role> {
  const { role, certificatePem, privateKeyPem } = stored;
  if (certificatePem.length > MAX_PEM_LENGTH || privateKeyPem.length > MAX_PEM_LENGTH) {
    throw malformed(role, 'the files are too large to be one certificate and one key');
  }
  // Node reads the first certificate of several; the peer would be served the others as well.
  if (!ONE_CERTIFICATE.test(certificatePem))
    throw malformed(role, 'the certificate is not one PEM certificate');
  const certificate = attempt(
    role,
    'the certificate is not DER in PEM',
    () => new X509Certificate(certificatePem),
  );
  // SECURITY: the cause is dropped; a parser's message must never carry a piece of the key.
  const key = attempt(role, 'the private key is not PKCS #8 in PEM', () => createPrivateKey(privateKeyPem));
  if (!isP256(key)) throw malformed(role, 'the private key is not EC P-256');
  if (!certificate.checkPrivateKey(key))
    throw malformed(role, 'the private key is not that of the certificate');
  return new ChannelIdentity(role, pinOfKey(key), certificatePem, privateKeyPem);
}

function isP256(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
}

function attempt<T>(role: ChannelRole, reason: string, read: () => T): T {
  try {
    return read();
  } catch {
    throw malformed(role, reason);
  }
}

function malformed(role: ChannelRole, reason: string): TrustError {
  return new TrustError(
    'channel.identity_malformed',
    'invalid',
    `cannot read the ${role}'s channel identity: ${reason}`,
    {
      context: { role, reason },
      hint: 'Restore the key and certificate from a backup, or make a new identity and enrol its pin again.',
    },
  );
}
