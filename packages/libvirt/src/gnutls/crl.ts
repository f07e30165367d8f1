import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { contextTag, DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import { type GnutlsCertificate, readNameAsGnutls } from './certificate.ts';
import { findBlock } from './pem.ts';
import { readTimeAsGnutls } from './time.ts';

/** A CRL as GnuTLS takes it: neither its signature nor its age count. */
export interface GnutlsCrl {
  readonly der: Uint8Array;
  readonly tbs: Uint8Array;
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
  /** DER of the issuer's Name. */
  readonly issuer: Uint8Array;
  readonly thisUpdate: Instant;
  readonly nextUpdate: Instant | undefined;
  /** Serial numbers as hexadecimal of their octets. */
  readonly serials: ReadonlySet<string>;
}

const MAX_BYTES = (1 << 24) - 1;
const LABEL = 'X509 CRL';

/** Every CRL of a PEM file (gnutls_x509_crl_list_import2): where one cannot be read none is; throws `crl.refused`. */
export function readGnutlsCrls(text: string): GnutlsCrl[] {
  const crls: GnutlsCrl[] = [];
  const begin = `-----BEGIN ${LABEL}`;
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, at + 1)) {
    const block = findBlock(text, LABEL, at);
    if (block.kind !== 'found') throw refused('a block is not whole base64');
    try {
      crls.push(readGnutlsCrl(block.der));
    } catch (error) {
      if (!(error instanceof TrustError)) throw error;
      throw refused(error.message);
    }
  }
  if (crls.length === 0) throw refused('there is no -----BEGIN X509 CRL----- block');
  return crls;
}

function readGnutlsCrl(der: Uint8Array): GnutlsCrl {
  const reader = DerReader.over(der, { what: 'CRL', maxBytes: MAX_BYTES });
  const outer = reader.sequence();
  reader.finish();
  const tbs = outer.element(TAG.sequence);
  const signatureAlgorithm = outer.element(TAG.sequence);
  const signature = outer.bitStringOctets();
  outer.finish();
  const inner = DerReader.over(tbs, { what: 'CRL', maxBytes: MAX_BYTES }).sequence();
  if (inner.nextIs(TAG.integer)) inner.content(TAG.integer);
  for (const algorithm of [inner.element(TAG.sequence), signatureAlgorithm]) readAlgorithmForm(algorithm);
  const issuer = readNameAsGnutls(inner.element(TAG.sequence)).der;
  const thisUpdate = readTime(inner) ?? (0 as Instant);
  const nextUpdate = nextIsTime(inner) ? readTime(inner) : undefined;
  const serials = new Set<string>();
  if (inner.nextIs(TAG.sequence)) {
    const list = inner.sequence();
    while (!list.done) {
      const entry = list.sequence();
      serials.add(Buffer.from(entry.content(TAG.integer)).toString('hex'));
      readTime(entry);
      if (!entry.done) readExtensionsForm(entry.sequence());
      entry.finish();
    }
  }
  const tag = contextTag(0, 'constructed');
  if (inner.nextIs(tag)) {
    const wrapper = inner.enter(tag);
    readExtensionsForm(wrapper.sequence());
    wrapper.finish();
  }
  inner.finish();
  return { der, tbs, signatureAlgorithm, signature, issuer, thisUpdate, nextUpdate, serials };
}

function nextIsTime(reader: DerReader): boolean {
  return reader.nextIs(TAG.utcTime) || reader.nextIs(TAG.generalizedTime);
}

/** A Time, undefined where its digits are no time. */
function readTime(reader: DerReader): Instant | undefined {
  if (!nextIsTime(reader)) return reader.fail('no time where one belongs');
  const element = reader.element();
  // libtasn1 is strict about the form of times here, not about their value.
  const text = Buffer.from(element.subarray(2)).toString('latin1');
  if (!(element[0] === TAG.utcTime ? /^\d{12}Z$/ : /^\d{14}(?:\.\d+)?Z$/).test(text))
    reader.fail('a malformed time');
  try {
    return readTimeAsGnutls(DerReader.over(element, { what: 'time' }));
  } catch {
    return undefined;
  }
}

function readAlgorithmForm(der: Uint8Array): void {
  const fields = DerReader.over(der, { what: 'signature algorithm' }).sequence();
  fields.element(TAG.oid);
  if (!fields.done) fields.element();
  fields.finish();
}

/** Extensions are to be decodable; what they say does not count. */
function readExtensionsForm(list: DerReader): void {
  while (!list.done) {
    const entry = list.sequence();
    entry.element(TAG.oid);
    if (entry.nextIs(TAG.boolean)) entry.content(TAG.boolean);
    entry.content(TAG.octetString);
    entry.finish();
  }
}

/** The CRL that revokes a certificate, as GnuTLS looks for it: the newest of the issuer's name, by serial number. */
export function revokingCrl(
  certificate: GnutlsCertificate,
  crls: readonly GnutlsCrl[],
): GnutlsCrl | undefined {
  let newest: GnutlsCrl | undefined;
  for (const crl of crls) {
    if (Buffer.compare(crl.issuer, certificate.issuer.der) !== 0) continue;
    // gnutls_x509_trust_list_add_crls: of one issuer's the newest stays, of two that are as new the later.
    if (newest === undefined || crl.thisUpdate >= newest.thisUpdate) newest = crl;
  }
  return newest?.serials.has(certificate.serial) === true ? newest : undefined;
}

function refused(reason: string): TrustError {
  return new TrustError('crl.refused', 'invalid', `cannot read CRL: ${reason}`);
}
