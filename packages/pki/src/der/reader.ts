import { TrustError } from '@virt-trust/base/error.ts';
import { decodeOid } from './oid.ts';

/** The tags that X.509 uses, universal class (X.690 §8); context tags come from `contextTag`. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The identifier octet of context tag `number`, primitive or constructed. */
export function contextTag(number: number, form: 'primitive' | 'constructed'): number {
  return (form === 'constructed' ? 0xa0 : 0x80) | number;
}

const MAX_DEPTH = 24;
const DEFAULT_MAX_BYTES = 1 << 20;

/** What the bytes are, and how many of them at most. */
export interface DerLimits {
  readonly what: string;
  readonly maxBytes?: number;
}

/**
 * A strict reader of DER (X.690 §10): definite minimal lengths, one-octet tags, bounded depth and size.
 * Every failure is a TrustError `der.malformed` that says what was read and at which offset.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  readonly #depth: number;
  readonly #what: string;
  #position: number;
  /** Where the content of the element that `#header` read last ends. */
  #contentEnd = 0;

  private constructor(bytes: Uint8Array, start: number, end: number, depth: number, what: string) {
    this.#bytes = bytes;
    this.#position = start;
    this.#end = end;
    this.#depth = depth;
    this.#what = what;
  }

  /** A reader over all of `bytes`. */
  static over(bytes: Uint8Array, limits: DerLimits): DerReader {
    const maxBytes = limits.maxBytes ?? DEFAULT_MAX_BYTES;
    if (bytes.length > maxBytes) {
      throw new TrustError(
        'der.too_large',
        'invalid',
        `cannot read ${limits.what}: ${bytes.length} bytes, more than ${maxBytes}`,
      );
    }
    // A plain view: subarray of a Buffer costs several times as much.
    const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    return new DerReader(view, 0, view.length, 0, limits.what);
  }

  /** True when nothing is left. */
  get done(): boolean {
    return this.#position >= this.#end;
  }

  /** True when the next element has this tag. */
  nextIs(tag: number): boolean {
    return this.#position < this.#end && this.#bytes[this.#position] === tag;
  }

  /** The next element's tag; fails at the end. */
  nextTag(): number {
    if (this.done) this.fail('it ends too early');
    return this.#bytes[this.#position] as number;
  }

  /** Passes over `bytes` where they come next; they are whole elements that were read before. */
  skip(bytes: Uint8Array): boolean {
    const position = this.#position;
    if (bytes.length > this.#end - position) return false;
    for (let index = 0; index < bytes.length; index++) {
      if (bytes[index] !== this.#bytes[position + index]) return false;
    }
    this.#position = position + bytes.length;
    return true;
  }

  /** Fails unless everything was read. */
  finish(): void {
    if (!this.done) this.fail('bytes are left over');
  }

  /** Refuses the input at the current place. */
  fail(reason: string): never {
    throw new TrustError('der.malformed', 'invalid', `cannot read ${this.#what}: ${reason}`, {
      context: { offset: this.#position },
    });
  }

  /** Reads identifier and length; leaves the position at the content. */
  #header(tag: number | undefined): void {
    const bytes = this.#bytes;
    const end = this.#end;
    const start = this.#position;
    let position = start;
    if (position + 2 > end) this.fail('it ends too early');
    const found = bytes[position++] as number;
    if ((found & 0x1f) === 0x1f) this.fail('a tag of more than one octet');
    if (tag !== undefined && found !== tag) {
      this.fail(`tag 0x${found.toString(16)} where 0x${tag.toString(16)} belongs`);
    }
    let length = bytes[position++] as number;
    if (length >= 0x80) {
      const count = length & 0x7f;
      // X.690 §10.1: the definite form, in the fewest octets.
      if (count === 0 || count > 4) this.fail('a length that is indefinite or too long');
      if (position + count > end) this.fail('it ends too early');
      length = 0;
      for (let index = 0; index < count; index++) length = length * 256 + (bytes[position++] as number);
      if (length < 0x80 || (count > 1 && length < 2 ** (8 * (count - 1)))) {
        this.fail('a length not in its shortest form');
      }
    }
    // SECURITY: nothing may reach past the end of the element around it.
    if (length > end - position) this.fail('an element is longer than what holds it');
    this.#position = position;
    this.#contentEnd = position + length;
  }

  /** The content octets of the next element. */
  content(tag: number): Uint8Array {
    this.#header(tag);
    const content = this.#bytes.subarray(this.#position, this.#contentEnd);
    this.#position = this.#contentEnd;
    return content;
  }

  /** The whole next element, header included. */
  element(tag?: number): Uint8Array {
    const start = this.#position;
    this.#header(tag);
    this.#position = this.#contentEnd;
    return this.#bytes.subarray(start, this.#contentEnd);
  }

  /** The whole next element and the content octets in it. */
  elementAndContent(tag: number): { readonly der: Uint8Array; readonly content: Uint8Array } {
    const start = this.#position;
    this.#header(tag);
    const content = this.#bytes.subarray(this.#position, this.#contentEnd);
    this.#position = this.#contentEnd;
    return { der: this.#bytes.subarray(start, this.#contentEnd), content };
  }

  /** A reader over the content of the next element. */
  enter(tag: number): DerReader {
    if (this.#depth >= MAX_DEPTH) this.fail('nested too deeply');
    this.#header(tag);
    const inner = new DerReader(this.#bytes, this.#position, this.#contentEnd, this.#depth + 1, this.#what);
    this.#position = this.#contentEnd;
    return inner;
  }

  /** A reader over the content of the next SEQUENCE. */
  sequence(): DerReader {
    return this.enter(TAG.sequence);
  }

  /** BOOLEAN (X.690 §11.1). */
  boolean(tag: number = TAG.boolean): boolean {
    const content = this.content(tag);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) this.fail('a malformed BOOLEAN');
    return content[0] === 0xff;
  }

  /** The octets of an INTEGER in its shortest form (X.690 §8.3.2). */
  integer(tag: number = TAG.integer): Uint8Array {
    const content = this.content(tag);
    const first = content[0];
    if (first === undefined) this.fail('an empty INTEGER');
    const second = content[1];
    if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
      this.fail('an INTEGER not in its shortest form');
    }
    return content;
  }

  /** A non-negative INTEGER of at most 31 bits. */
  smallInteger(tag: number = TAG.integer): number {
    const content = this.integer(tag);
    if (content.length > 4 || (content[0] as number) >= 0x80) this.fail('an INTEGER out of range');
    let value = 0;
    for (const octet of content) value = value * 256 + octet;
    return value;
  }

  /** An OBJECT IDENTIFIER in dotted form. */
  oid(): string {
    const value = decodeOid(this.content(TAG.oid));
    if (value === undefined) this.fail('a malformed OBJECT IDENTIFIER');
    return value;
  }

  /** A BIT STRING of whole octets. */
  bitStringOctets(tag: number = TAG.bitString): Uint8Array {
    const content = this.content(tag);
    if (content[0] !== 0) this.fail('a BIT STRING that is not of whole octets');
    return content.subarray(1);
  }

  /** A named-bit BIT STRING (X.690 §11.2.2: no trailing zero bits), as numbers of the bits that are set. */
  namedBits(tag: number = TAG.bitString): number[] {
    const content = this.content(tag);
    const unused = content[0];
    if (unused === undefined || unused > 7 || content.length > 5) this.fail('a malformed BIT STRING');
    if (content.length === 1) {
      if (unused !== 0) this.fail('a malformed BIT STRING');
      return [];
    }
    const last = content[content.length - 1] as number;
    if ((last & ((1 << unused) - 1)) !== 0 || (last & (1 << unused)) === 0) {
      this.fail('a BIT STRING with trailing zero bits');
    }
    const bits: number[] = [];
    for (let index = 0; index < (content.length - 1) * 8; index++) {
      if (((content[1 + (index >> 3)] as number) & (0x80 >> (index & 7))) !== 0) bits.push(index);
    }
    return bits;
  }
}
