/** What became of a PEM block that GnuTLS looked for. */
export type FoundBlock =
  | { readonly kind: 'found'; readonly der: Uint8Array }
  | { readonly kind: 'none' }
  | { readonly kind: 'broken'; readonly reason: string };

const DASHES = '-----';

/**
 * The first block whose label begins so, as GnuTLS reads it (_gnutls_fbase64_decode, lib/x509_b64.c): text around
 * blocks, the rest of the label and the END line's label are not looked at. The text has one character an octet.
 */
export function findBlock(text: string, label: string, from = 0): FoundBlock {
  const begin = text.indexOf(`-----BEGIN ${label}`, from);
  if (begin < 0) return { kind: 'none' };
  const endOfLabel = text.indexOf(DASHES, begin + DASHES.length);
  if (endOfLabel < 0) return { kind: 'broken', reason: 'its -----BEGIN line does not end' };
  const start = endOfLabel + DASHES.length;
  const end = text.indexOf('-----END', start);
  if (end < 0) return { kind: 'broken', reason: 'it has no -----END line' };
  return decodeBase64(text.slice(start, end));
}

/** Base64 up to the first dash, white space passed over (cpydata, lib/x509_b64.c). */
function decodeBase64(text: string): FoundBlock {
  const dash = text.indexOf('-');
  const body = (dash < 0 ? text : text.slice(0, dash)).replace(/[\n\r \t\v]/g, '');
  if (body === '') return { kind: 'broken', reason: 'it is empty' };
  if (body.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(body)) {
    return { kind: 'broken', reason: 'it is not base64' };
  }
  return { kind: 'found', der: Buffer.from(body, 'base64') };
}

/** A file's octets as C reads a string: up to the first NUL. */
export function untilNul(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}
