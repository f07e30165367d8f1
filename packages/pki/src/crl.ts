import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { CrlEntries } from './crl-entries.ts';
import { type CrlExtensions, NO_CRL_EXTENSIONS, readCrlExtensions } from './crl-extensions.ts';
import { contextTag, DerReader, TAG } from './der/reader.ts';
import { readTime } from './der/time.ts';
import { type Name, readName } from './name.ts';
import { decodePem, encodePem } from './pem.ts';

/** A CRL (RFC 5280 §5), well-formed but not verified; `verifyCrl` verifies it. */
export interface Crl {
  readonly der: Uint8Array;
  /** The DER of the TBSCertList, which the signature covers. */
  readonly tbs: Uint8Array;
  readonly version: 1 | 2;
  /** DER of the AlgorithmIdentifier. */
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
  readonly issuer: Name;
  readonly thisUpdate: Instant;
  /** RFC 5280 §5.1.2.5 demands it; undefined where it is missing nevertheless. */
  readonly nextUpdate: Instant | undefined;
  readonly extensions: CrlExtensions;
  readonly entries: CrlEntries;
}

/** How much is read at most. */
export interface CrlLimits {
  /** 16 MiB where left out, some 300,000 entries. */
  readonly maxBytes?: number;
}

/** SECURITY: what a CRL of unknown origin may cost; one octet less than lengths of four octets begin. */
const MAX_BYTES = (1 << 24) - 1;
const MAX_CRLS = 64;
const NO_ENTRIES = new Uint8Array(0);
const CRL_LABELS = ['X509 CRL', 'CRL'];

type Tbs = Omit<Crl, 'der' | 'tbs' | 'signature'>;

function readVersion(tbs: DerReader): Crl['version'] {
  if (!tbs.nextIs(TAG.integer)) return 1;
  if (tbs.smallInteger() !== 1) tbs.fail('its version is neither 1 nor 2');
  return 2;
}

function nextIsTime(reader: DerReader): boolean {
  return reader.nextIs(TAG.utcTime) || reader.nextIs(TAG.generalizedTime);
}

function readTbs(tbs: DerReader): Tbs {
  const version = readVersion(tbs);
  const signatureAlgorithm = tbs.element(TAG.sequence);
  const issuer = readName(tbs);
  const thisUpdate = readTime(tbs, 'tolerant');
  const nextUpdate = nextIsTime(tbs) ? readTime(tbs, 'tolerant') : undefined;
  const listed = tbs.nextIs(TAG.sequence);
  const entries = new CrlEntries(listed ? tbs.content(TAG.sequence) : NO_ENTRIES);
  // RFC 5280 §5.1.2.6: absent where nothing is revoked.
  if (listed && entries.count === 0) tbs.fail('an empty list of revoked certificates');
  const extensionsTag = contextTag(0, 'constructed');
  let extensions = NO_CRL_EXTENSIONS;
  if (!tbs.done) {
    const wrapper = tbs.enter(extensionsTag);
    extensions = readCrlExtensions(wrapper.sequence());
    wrapper.finish();
  }
  tbs.finish();
  const extended = entries.extended || extensions !== NO_CRL_EXTENSIONS;
  if (version === 1 && extended) tbs.fail('extensions in a CRL of version 1');
  return { version, signatureAlgorithm, issuer, thisUpdate, nextUpdate, extensions, entries };
}

/** Parses a DER CRL, its signature unverified; throws `der.malformed` or `der.too_large`. */
export function parseCrl(der: Uint8Array, limits: CrlLimits = {}): Crl {
  const maxBytes = Math.min(limits.maxBytes ?? MAX_BYTES, MAX_BYTES);
  const reader = DerReader.over(der, { what: 'CRL', maxBytes });
  const outer = reader.sequence();
  reader.finish();
  const tbs = outer.element(TAG.sequence);
  const inner = DerReader.over(tbs, { what: 'CRL', maxBytes });
  const fields = readTbs(inner.sequence());
  const signatureAlgorithm = outer.element(TAG.sequence);
  // SECURITY: RFC 5280 §5.1.1.2: the unsigned field must say what the signed one says.
  if (Buffer.compare(signatureAlgorithm, fields.signatureAlgorithm) !== 0) {
    outer.fail('its two signature algorithms differ');
  }
  const signature = outer.bitStringOctets();
  outer.finish();
  return { ...fields, der, tbs, signature };
}

/** Parses every CRL of a PEM text, at least one, other blocks passed over; throws `pem.*`, `der.*`, `crl.missing`. */
export function parseCrls(text: string, limits: CrlLimits = {}): Crl[] {
  const maxBytes = Math.min(limits.maxBytes ?? MAX_BYTES, MAX_BYTES);
  const crls: Crl[] = [];
  for (const block of decodePem(text, { maxCharacters: 2 * maxBytes, maxBlocks: MAX_CRLS })) {
    if (!CRL_LABELS.includes(block.label)) continue;
    try {
      crls.push(parseCrl(block.bytes, limits));
    } catch (cause) {
      if (!(cause instanceof TrustError)) throw cause;
      throw new TrustError(cause.code, cause.category, `${cause.message} (PEM block of line ${block.line})`, {
        context: { ...cause.context, line: block.line },
        cause,
      });
    }
  }
  if (crls.length === 0) {
    throw new TrustError(
      'crl.missing',
      'invalid',
      'cannot read CRL: the text has no -----BEGIN X509 CRL----- block',
    );
  }
  return crls;
}

/** The PEM of CRLs, one after the other, as GnuTLS reads them from one file (RFC 7468 §7). */
export function encodeCrlsPem(crls: readonly { readonly der: Uint8Array }[]): string {
  return crls.map(({ der }) => encodePem('X509 CRL', der)).join('');
}
