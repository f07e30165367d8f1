import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { type CrlEntry, type CrlEntryExtensions, REASON_ALONE, readEntryExtensions } from './crl-entry.ts';
import { crlReasonOfCode } from './crl-reason.ts';
import { TAG } from './der/reader.ts';
import { decodeTime } from './der/time.ts';
import { type Name, namesEqual } from './name.ts';
import { type SerialNumber, serialNumberOfOctets } from './serial-number.ts';

const MAX_SERIAL_OCTETS = 64;
const MAX_UNKNOWN = 16;
/** From so many lookups on, an index costs less than going through the entries each time. */
const LOOKUPS_BEFORE_INDEX = 8;

function fail(reason: string, offset: number): never {
  throw new TrustError('der.malformed', 'invalid', `cannot read CRL: ${reason}`, { context: { offset } });
}

/**
 * Goes from entry to entry of a revokedCertificates (X.690 §10: strict DER) without making an object for each: one
 * cursor, moved by `next`, names where serial number, date and extensions lie.
 */
class EntryCursor {
  readonly bytes: Uint8Array;
  position: number;
  /** Offset of the entry. */
  start = 0;
  serialStart = 0;
  serialEnd = 0;
  date = 0 as Instant;
  /** Equal where there are none. */
  extensionsStart = 0;
  extensionsEnd = 0;
  #contentEnd = 0;

  constructor(bytes: Uint8Array, position = 0) {
    this.bytes = bytes;
    this.position = position;
  }

  /** Reads identifier and length at the position, which moves to the content. */
  #header(tag: number, end: number): void {
    const bytes = this.bytes;
    let position = this.position;
    if (position + 2 > end) fail('an entry ends too early', position);
    if (bytes[position] !== tag) fail(`tag 0x${bytes[position]?.toString(16)} in an entry`, position);
    let length = bytes[position + 1] as number;
    position += 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3 || position + count > end) fail('a malformed length', position);
      length = 0;
      for (let index = 0; index < count; index++) length = length * 256 + (bytes[position++] as number);
      if (length < 0x80 || (count > 1 && length < 2 ** (8 * (count - 1)))) {
        fail('a length not in its shortest form', position);
      }
    }
    // SECURITY: nothing may reach past the end of what is around it.
    if (length > end - position) fail('an element is longer than what holds it', position);
    this.position = position;
    this.#contentEnd = position + length;
  }

  #serial(end: number): void {
    this.#header(TAG.integer, end);
    const { bytes, position } = this;
    const length = this.#contentEnd - position;
    if (length === 0 || length > MAX_SERIAL_OCTETS) fail('a serial number of a wrong length', position);
    const first = bytes[position] as number;
    const second = bytes[position + 1] as number;
    const padded = length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
    if (padded) fail('a serial number not in its shortest form', position);
    // Without the octet that only says that it is positive, as SerialNumber has it.
    this.serialStart = length > 1 && first === 0 ? position + 1 : position;
    this.serialEnd = this.position = this.#contentEnd;
  }

  /** Moves to the next entry; false where there is none. */
  next(): boolean {
    const { bytes } = this;
    if (this.position >= bytes.length) return false;
    this.start = this.position;
    this.#header(TAG.sequence, bytes.length);
    const end = this.#contentEnd;
    this.#serial(end);
    const tag = bytes[this.position] === TAG.utcTime ? TAG.utcTime : TAG.generalizedTime;
    this.#header(tag, end);
    const date = decodeTime(tag, bytes.subarray(this.position, this.#contentEnd));
    if (typeof date === 'string') fail(date, this.position);
    this.date = date;
    this.position = this.#contentEnd;
    this.extensionsStart = this.extensionsEnd = end;
    if (this.position < end) {
      this.#header(TAG.sequence, end);
      this.extensionsStart = this.position;
      this.extensionsEnd = this.position = this.#contentEnd;
      if (this.extensionsStart === this.extensionsEnd) fail('an empty list of extensions', this.position);
    }
    if (this.position !== end) fail('bytes are left over in an entry', this.position);
    return true;
  }

  get hasExtensions(): boolean {
    return this.extensionsStart < this.extensionsEnd;
  }

  /** Whether the entry has a reasonCode of the usual form and nothing else. */
  get reasonAlone(): boolean {
    const { bytes, extensionsStart: from } = this;
    if (this.extensionsEnd - from !== REASON_ALONE.length + 1) return false;
    for (let index = 0; index < REASON_ALONE.length; index++) {
      if (bytes[from + index] !== REASON_ALONE[index]) return false;
    }
    return crlReasonOfCode(bytes[from + REASON_ALONE.length] as number) !== undefined;
  }

  serialIs(octets: Uint8Array): boolean {
    const { bytes, serialStart } = this;
    if (this.serialEnd - serialStart !== octets.length) return false;
    for (let index = 0; index < octets.length; index++) {
      if (bytes[serialStart + index] !== octets[index]) return false;
    }
    return true;
  }

  extensions(): CrlEntryExtensions | undefined {
    if (!this.hasExtensions) return undefined;
    return readEntryExtensions(this.bytes.subarray(this.extensionsStart, this.extensionsEnd));
  }

  entry(): CrlEntry {
    const extensions = this.extensions();
    return {
      serialNumber: serialNumberOfOctets(this.bytes.subarray(this.serialStart, this.serialEnd)),
      revocationDate: this.date,
      reason: extensions?.reason ?? 'unspecified',
      invalidityDate: extensions?.invalidityDate,
    };
  }
}

/**
 * The entries of a CRL over its own bytes: read once for their form, then decoded only as they are asked for, so that a
 * CRL of 100,000 entries is no heap of objects.
 */
export class CrlEntries implements Iterable<CrlEntry> {
  /** How many there are. */
  readonly count: number;
  /** Critical extensions of entries that are not processed (RFC 5280 §5.3: then the CRL must not be used). */
  readonly unknownCritical: readonly string[];
  /** Whether some entry has any extension: then the CRL must be of version 2. */
  readonly extended: boolean;
  readonly #content: Uint8Array;
  readonly #indirect: boolean;
  #lookups = 0;
  #index: ReadonlyMap<string, number> | undefined;

  /** Reads the content octets of revokedCertificates through; throws `der.malformed`. */
  constructor(content: Uint8Array) {
    // A plain view: reading from a Buffer's subarray costs several times as much.
    this.#content = new Uint8Array(content.buffer, content.byteOffset, content.length);
    const cursor = new EntryCursor(this.#content);
    const unknown = new Set<string>();
    let count = 0;
    let extended = false;
    let indirect = false;
    while (cursor.next()) {
      count++;
      if (!cursor.hasExtensions) continue;
      extended = true;
      if (cursor.reasonAlone) continue;
      const extensions = cursor.extensions();
      if (extensions?.certificateIssuer !== undefined) indirect = true;
      for (const oid of extensions?.unknownCritical ?? []) if (unknown.size < MAX_UNKNOWN) unknown.add(oid);
    }
    this.count = count;
    this.extended = extended;
    this.#indirect = indirect;
    this.unknownCritical = [...unknown];
  }

  *[Symbol.iterator](): Iterator<CrlEntry> {
    const cursor = new EntryCursor(this.#content);
    while (cursor.next()) yield cursor.entry();
  }

  /**
   * The entry of a certificate; `issuer` is who issued it and `crlIssuer` whose CRL this is, which indirect CRLs need
   * (RFC 5280 §5.3.3). Where one is there twice, that which revokes.
   */
  find(serialNumber: SerialNumber, issuer: Name, crlIssuer: Name): CrlEntry | undefined {
    const octets = Buffer.from(serialNumber, 'hex');
    if (!this.#indirect && ++this.#lookups > LOOKUPS_BEFORE_INDEX) this.#index ??= this.#buildIndex();
    if (this.#index !== undefined) {
      const offset = this.#index.get(octets.toString('latin1'));
      if (offset === undefined) return undefined;
      const cursor = new EntryCursor(this.#content, offset);
      cursor.next();
      return cursor.entry();
    }
    return this.#scan(octets, issuer, crlIssuer);
  }

  #scan(octets: Uint8Array, issuer: Name, crlIssuer: Name): CrlEntry | undefined {
    const cursor = new EntryCursor(this.#content);
    let issuers: readonly Name[] = [crlIssuer];
    let removed: CrlEntry | undefined;
    while (cursor.next()) {
      if (this.#indirect) issuers = cursor.extensions()?.certificateIssuer ?? issuers;
      if (!cursor.serialIs(octets) || !issuers.some((name) => namesEqual(name, issuer))) continue;
      const entry = cursor.entry();
      if (entry.reason !== 'removeFromCRL') return entry;
      removed ??= entry;
    }
    return removed;
  }

  /** SECURITY: a Map of strings, whose hashes are seeded, so that chosen serial numbers cannot make it slow. */
  #buildIndex(): ReadonlyMap<string, number> {
    const index = new Map<string, number>();
    const bytes = Buffer.from(this.#content.buffer, this.#content.byteOffset, this.#content.length);
    const cursor = new EntryCursor(this.#content);
    while (cursor.next()) {
      const key = bytes.toString('latin1', cursor.serialStart, cursor.serialEnd);
      if (!index.has(key) || cursor.extensions()?.reason !== 'removeFromCRL') index.set(key, cursor.start);
    }
    return index;
  }
}
