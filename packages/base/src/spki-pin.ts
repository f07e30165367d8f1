import { createPublicKey, hash, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { Brand } from './brand.ts';
import { TrustError } from './error.ts';

/** SHA-256 of a SubjectPublicKeyInfo, written `sha256:` + unpadded base64url: how every party is known. */
export type SpkiPin = Brand<string, 'SpkiPin'>;

const FORM = /^sha256:[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

/** True for the exact written form of a pin. */
export function isSpkiPin(value: unknown): value is SpkiPin {
  return typeof value === 'string' && FORM.test(value);
}

/** Parses a pin; throws `pin.malformed`. */
export function parseSpkiPin(text: string): SpkiPin {
  if (!isSpkiPin(text)) {
    throw new TrustError(
      'pin.malformed',
      'invalid',
      `cannot read pin ${JSON.stringify(text.slice(0, 80))}: not sha256: and 43 base64url characters`,
    );
  }
  return text;
}

/** The pin of a DER SubjectPublicKeyInfo. */
export function pinOfSpki(spki: Uint8Array): SpkiPin {
  return `sha256:${hash('sha256', spki, 'base64url')}` as SpkiPin;
}

/** The pin of a key, private or public. */
export function pinOfKey(key: KeyObject): SpkiPin {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return pinOfSpki(publicKey.export({ type: 'spki', format: 'der' }));
}

/** Whether `pin` is one of `pins`; the time taken tells nothing about which or how nearly. */
export function pinMatches(pin: SpkiPin, pins: Iterable<SpkiPin>): boolean {
  const ours = Buffer.from(pin);
  let found = false;
  // SECURITY: no early exit; every pin is compared in full.
  for (const candidate of pins) {
    const theirs = Buffer.from(candidate);
    if (theirs.length === ours.length && timingSafeEqual(theirs, ours)) found = true;
  }
  return found;
}
