import { encodeOid, OID } from './oid.ts';
import { contextTag, TAG } from './reader.ts';

/** How many octets the definite length `length` takes (X.690 §8.1.3). */
function lengthOfLength(length: number): number {
  if (length < 0x80) return 1;
  return length < 0x100 ? 2 : length < 0x10000 ? 3 : 4;
}

/** Writes identifier and length into `target` at `offset`; returns the offset of the content. */
function writeHeader(target: Uint8Array, offset: number, tag: number, length: number): number {
  target[offset++] = tag;
  if (length < 0x80) {
    target[offset++] = length;
  } else {
    const count = lengthOfLength(length) - 1;
    target[offset++] = 0x80 | count;
    for (let shift = (count - 1) * 8; shift >= 0; shift -= 8) target[offset++] = (length >>> shift) & 0xff;
  }
  return offset;
}

/** Identifier and length octets alone, for content that is long and already at hand; at most 16 MiB. */
export function elementHeader(tag: number, length: number): Uint8Array {
  const result = new Uint8Array(1 + lengthOfLength(length));
  writeHeader(result, 0, tag, length);
  return result;
}

/** One element with the given tag, around the parts in their order; at most 16 MiB. */
export function element(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  // From Node's pool, which is much faster than an allocation of its own; every octet of it is written below.
  const result = Buffer.allocUnsafe(1 + lengthOfLength(length) + length);
  let offset = writeHeader(result, 0, tag, length);
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}

/** SEQUENCE. */
export function sequence(...parts: readonly Uint8Array[]): Uint8Array {
  return element(TAG.sequence, ...parts);
}

/** SET of one element; several would have to be put in order. */
export function setOfOne(part: Uint8Array): Uint8Array {
  return element(TAG.set, part);
}

/** EXPLICIT context tag. */
export function explicit(number: number, ...parts: readonly Uint8Array[]): Uint8Array {
  return element(contextTag(number, 'constructed'), ...parts);
}

/** IMPLICIT context tag on a primitive value. */
export function implicit(number: number, content: Uint8Array): Uint8Array {
  return element(contextTag(number, 'primitive'), content);
}

/** INTEGER of non-negative 31 bits. */
export function smallInteger(value: number): Uint8Array {
  const octets = [value & 0xff];
  for (let rest = value >>> 8; rest > 0; rest >>>= 8) octets.unshift(rest & 0xff);
  if ((octets[0] as number) >= 0x80) octets.unshift(0);
  return element(TAG.integer, Uint8Array.from(octets));
}

const KNOWN_OIDS = new Map<string, Uint8Array>(
  Object.values(OID).map((dotted) => [dotted, element(TAG.oid, encodeOid(dotted))]),
);

/** OBJECT IDENTIFIER. */
export function oid(dotted: string): Uint8Array {
  return KNOWN_OIDS.get(dotted) ?? element(TAG.oid, encodeOid(dotted));
}

/** BIT STRING of whole octets. */
export function bitString(octets: Uint8Array): Uint8Array {
  return element(TAG.bitString, Uint8Array.of(0), octets);
}

/** Named-bit BIT STRING without trailing zero bits (X.690 §11.2.2). */
export function namedBits(bits: readonly number[]): Uint8Array {
  if (bits.length === 0) return element(TAG.bitString, Uint8Array.of(0));
  const highest = Math.max(...bits);
  const octets = new Uint8Array((highest >> 3) + 1);
  for (const bit of bits) octets[bit >> 3] = (octets[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return element(TAG.bitString, Uint8Array.of(7 - (highest & 7)), octets);
}

/** OCTET STRING. */
export function octetString(...parts: readonly Uint8Array[]): Uint8Array {
  return element(TAG.octetString, ...parts);
}

/** UTF8String. */
export function utf8String(text: string): Uint8Array {
  return element(TAG.utf8String, Buffer.from(text, 'utf8'));
}

/** BOOLEAN TRUE. */
export const TRUE: Uint8Array = Uint8Array.of(TAG.boolean, 1, 0xff);

/** NULL. */
export const NULL: Uint8Array = Uint8Array.of(TAG.null, 0);
