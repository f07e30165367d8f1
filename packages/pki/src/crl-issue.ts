import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Issuer } from './certificate-issue.ts';
import { type CrlEntryFields, encodeCrlEntry } from './crl-entry.ts';
import { crlNumberOctets } from './crl-number.ts';
import { OID } from './der/oid.ts';
import { contextTag, TAG } from './der/reader.ts';
import { encodeTime } from './der/time.ts';
import { bitString, element, elementHeader, sequence, smallInteger } from './der/writer.ts';
import { encodeAuthorityKeyIdentifier, encodeExtension } from './extension-encode.ts';
import { formatName } from './name.ts';
import { signBytes } from './signature.ts';

/** What goes into a CRL beside its entries. */
export interface CrlFields {
  /** Greater than that of every CRL of this issuer before (RFC 5280 §5.2.3). */
  readonly number: bigint;
  readonly thisUpdate: Instant;
  readonly nextUpdate: Instant;
}

const FIRST_CAPACITY = 4096;

/**
 * Encoded entries, one after the other in one growing buffer: one more costs its own encoding, whatever is there
 * already. Serial numbers are the caller's to keep apart.
 */
export class EncodedCrlEntries {
  #buffer = Buffer.allocUnsafe(FIRST_CAPACITY);
  #length = 0;
  #count = 0;

  /** Encodes all of `entries`. */
  static of(entries: Iterable<CrlEntryFields>): EncodedCrlEntries {
    const result = new EncodedCrlEntries();
    for (const entry of entries) result.add(entry);
    return result;
  }

  get count(): number {
    return this.#count;
  }

  /** The entries' DER; good until the next `add`. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Adds an entry at the end. */
  add(entry: CrlEntryFields): void {
    const der = encodeCrlEntry(entry);
    const needed = this.#length + der.length;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, 2 * this.#buffer.length));
      this.#buffer.copy(grown, 0, 0, this.#length);
      this.#buffer = grown;
    }
    this.#buffer.set(der, this.#length);
    this.#length = needed;
    this.#count++;
  }
}

/** The INTEGER 1: version 2. */
const VERSION_2 = smallInteger(1);
/** What `element` can hold. */
const MAX_ENTRIES_BYTES = 15 * (1 << 20);

/** Refuses what would be signed in vain. */
function checkFields(issuer: Issuer, fields: CrlFields, entries: EncodedCrlEntries): void {
  const refuse = (reason: string) =>
    new TrustError(
      'crl.refused',
      'invalid',
      `cannot issue a CRL of ${formatName(issuer.certificate.subject)}: ${reason}`,
    );
  const usages = issuer.certificate.extensions.keyUsage?.usages;
  if (usages !== undefined && !usages.includes('cRLSign')) {
    throw refuse('the authority’s keyUsage does not allow CRLs (RFC 5280 §4.2.1.3)');
  }
  if (fields.nextUpdate <= fields.thisUpdate) throw refuse('nextUpdate is not after thisUpdate');
  if (entries.bytes.length > MAX_ENTRIES_BYTES) throw refuse(`${entries.count} entries are too many`);
}

/**
 * Makes and signs a CRL of version 2 with its number and its issuer's key identifier (RFC 5280 §5.1, §5.2); returns
 * DER, throws `crl.refused`. Keep an `EncodedCrlEntries` where the list is long.
 */
export function issueCrl(
  issuer: Issuer,
  fields: CrlFields & { readonly entries: Iterable<CrlEntryFields> | EncodedCrlEntries },
): Uint8Array {
  const { entries } = fields;
  const encoded = entries instanceof EncodedCrlEntries ? entries : EncodedCrlEntries.of(entries);
  checkFields(issuer, fields, encoded);
  const { identifier } = issuer.signatureAlgorithm;
  const extensions = sequence(
    encodeAuthorityKeyIdentifier(issuer.keyIdentifier),
    encodeExtension(OID.crlNumber, 'not-critical', element(TAG.integer, crlNumberOctets(fields.number))),
  );
  const head = Buffer.concat([
    VERSION_2,
    identifier,
    issuer.certificate.subject.der,
    encodeTime(fields.thisUpdate),
    encodeTime(fields.nextUpdate),
    // RFC 5280 §5.1.2.6: absent where nothing is revoked.
    ...(encoded.count === 0 ? [] : [elementHeader(TAG.sequence, encoded.bytes.length)]),
  ]);
  return signInPlace(issuer, [head, encoded.bytes, element(contextTag(0, 'constructed'), extensions)]);
}

/** What identifier and length octets take at most, and a signature with all that is around it. */
const MAX_HEADER = 8;
const MAX_SIGNATURE = 2048;

/** CertificateList around the parts of its TBSCertList, in one buffer: a long list is copied once and not again to be signed. */
function signInPlace(issuer: Issuer, parts: readonly Uint8Array[]): Uint8Array {
  const { signatureAlgorithm, key } = issuer;
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const result = Buffer.allocUnsafe(2 * MAX_HEADER + length + MAX_SIGNATURE);
  const tbsHeader = elementHeader(TAG.sequence, length);
  let end = MAX_HEADER;
  const append = (bytes: Uint8Array) => {
    result.set(bytes, end);
    end += bytes.length;
  };
  append(tbsHeader);
  for (const part of parts) append(part);
  const signature = signBytes(result.subarray(MAX_HEADER, end), signatureAlgorithm, key);
  append(signatureAlgorithm.identifier);
  append(bitString(signature));
  const header = elementHeader(TAG.sequence, end - MAX_HEADER);
  const start = MAX_HEADER - header.length;
  result.set(header, start);
  return result.subarray(start, end);
}
