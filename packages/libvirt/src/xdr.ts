import { TrustError } from '@virt-trust/base/error.ts';

/** The longest string that libvirt puts in a message (VIR_NET_MESSAGE_STRING_MAX). */
const STRING_LIMIT = 4 * 1024 * 1024;

/** Reads XDR (RFC 4506) of a peer; every read is bounded by what is there; throws `rpc.malformed`. */
export class XdrReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** RFC 4506 §4.2. */
  unsigned(): number {
    return this.#take(4).readUInt32BE(0);
  }

  /** RFC 4506 §4.1. */
  integer(): number {
    return this.#take(4).readInt32BE(0);
  }

  /** RFC 4506 §4.9: fixed-length opaque data. */
  opaque(length: number): Uint8Array {
    const data = this.#take(length);
    this.#padding(length);
    return data;
  }

  /** RFC 4506 §4.11, read as UTF-8. */
  string(): string {
    const length = this.unsigned();
    if (length > STRING_LIMIT) throw malformed(`a string of ${length} bytes`);
    return Buffer.from(this.opaque(length)).toString('utf8');
  }

  /** RFC 4506 §4.19: a value or none. */
  optional<Value>(read: () => Value): Value | undefined {
    const present = this.unsigned();
    if (present > 1) throw malformed(`${present} where a value is there or not`);
    return present === 1 ? read() : undefined;
  }

  /** Refuses what is left over. */
  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw malformed(`${left} bytes left over`);
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw malformed('it ends too early');
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }

  #padding(length: number): void {
    const padding = this.#take((4 - (length % 4)) % 4);
    if (padding.some((byte) => byte !== 0)) throw malformed('padding that is not zero');
  }
}

/** RFC 4506 §4.2: an unsigned integer of 32 bits. */
export function encodeXdrUnsigned(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** RFC 4506 §4.11: a string, in UTF-8. */
export function encodeXdrString(value: string): Uint8Array {
  const text = Buffer.from(value, 'utf8');
  return Buffer.concat([encodeXdrUnsigned(text.length), text, Buffer.alloc((4 - (text.length % 4)) % 4)]);
}

function malformed(reason: string): TrustError {
  return new TrustError('rpc.malformed', 'failed', `cannot read libvirt's message: ${reason}`);
}
