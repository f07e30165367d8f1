import { readGnutlsKey } from './signature.ts';

/** Bits of an RSA, PSS or DSA key, and of a curve, that the profile of the priority string NORMAL demands. */
const RSA_BITS = 1024;
const EC_BITS = 160;

/** Whether a key meets what GnuTLS's priority string NORMAL demands of a peer's chain (is_level_acceptable). */
export function isStrongEnough(spki: Uint8Array): boolean {
  const key = readGnutlsKey(spki);
  if (key === undefined) return false;
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (modulusLength !== undefined) return modulusLength >= RSA_BITS;
  const curveBits = /(\d{3})/.exec(namedCurve ?? '')?.[1];
  return curveBits === undefined || Number(curveBits) >= EC_BITS;
}

/** Whether a handshake can be signed with the key: of the curves that GnuTLS verifies, NORMAL offers these alone. */
export function isHandshakeKey(spki: Uint8Array): boolean {
  const { namedCurve } = readGnutlsKey(spki)?.asymmetricKeyDetails ?? {};
  return namedCurve === undefined || ['prime256v1', 'secp384r1', 'secp521r1'].includes(namedCurve);
}
