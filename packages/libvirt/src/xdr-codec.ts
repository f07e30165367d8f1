import { TrustError } from '@virt-trust/base/error.ts';
import { encodeXdrString, encodeXdrUnsigned, XdrReader } from './xdr.ts';

/** Writes and reads one type of XDR (RFC 4506); reading throws `rpc.malformed`. */
export interface XdrCodec<Value> {
  encode(value: Value): Uint8Array;
  decode(reader: XdrReader): Value;
}

/** What a codec is for. */
export type XdrValue<Codec> = Codec extends XdrCodec<infer Value> ? Value : never;

/** The longest string that libvirt takes (remote_protocol.x, REMOTE_STRING_MAX). */
const STRING_LIMIT = 4_194_304;
const UUID_LENGTH = 16;

/** RFC 4506 §4.2. */
export const xdrUnsigned: XdrCodec<number> = {
  encode: encodeXdrUnsigned,
  decode: (reader) => reader.unsigned(),
};

/** RFC 4506 §4.1. */
export const xdrInteger: XdrCodec<number> = {
  encode: (value) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(value);
    return bytes;
  },
  decode: (reader) => reader.integer(),
};

/** RFC 4506 §4.5: an unsigned integer of 64 bits. */
export const xdrUnsignedHyper: XdrCodec<bigint> = {
  encode: (value) => eight((bytes) => bytes.writeBigUInt64BE(value)),
  decode: (reader) => take(reader, 8).readBigUInt64BE(),
};

/** RFC 4506 §4.5: an integer of 64 bits. */
export const xdrHyper: XdrCodec<bigint> = {
  encode: (value) => eight((bytes) => bytes.writeBigInt64BE(value)),
  decode: (reader) => take(reader, 8).readBigInt64BE(),
};

/** RFC 4506 §4.7. */
export const xdrDouble: XdrCodec<number> = {
  encode: (value) => eight((bytes) => bytes.writeDoubleBE(value)),
  decode: (reader) => take(reader, 8).readDoubleBE(),
};

/** RFC 4506 §4.4. */
export const xdrBoolean: XdrCodec<boolean> = {
  encode: (value) => encodeXdrUnsigned(value ? 1 : 0),
  decode: (reader) => {
    const value = reader.unsigned();
    if (value > 1) throw malformed(`${value} where yes or no is told`);
    return value === 1;
  },
};

/**
 * RFC 4506 §4.11: text in UTF-8.
 * SECURITY: refused where libvirt would read another text than we: it ends strings at a NUL and takes any bytes.
 */
export function xdrText(limit = STRING_LIMIT): XdrCodec<string> {
  return {
    encode: encodeXdrString,
    decode: (reader) => {
      const bytes = counted(reader, limit, 'a string');
      if (bytes.includes(0)) throw malformed('a string with a NUL');
      try {
        return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
      } catch {
        throw malformed('a string that is not UTF-8');
      }
    },
  };
}

/** RFC 4506 §4.10: opaque data of variable length. */
export function xdrOpaque(limit: number): XdrCodec<Uint8Array> {
  return {
    encode: (value) =>
      Buffer.concat([encodeXdrUnsigned(value.length), value, Buffer.alloc((4 - (value.length % 4)) % 4)]),
    decode: (reader) => counted(reader, limit, 'opaque data'),
  };
}

/** A UUID as sixteen bytes (remote_protocol.x, `remote_uuid`), in its usual text. */
export const xdrUuid: XdrCodec<string> = {
  encode: (value) => {
    const bytes = Buffer.from(value.replaceAll('-', ''), 'hex');
    if (bytes.length !== UUID_LENGTH)
      throw new TrustError('rpc.uuid', 'internal', `cannot send UUID ${value}: it is none`);
    return bytes;
  },
  decode: (reader) =>
    take(reader, UUID_LENGTH)
      .toString('hex')
      .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
};

/** RFC 4506 §4.19: a value or null. */
export function xdrOptional<Value>(codec: XdrCodec<Value>): XdrCodec<Value | null> {
  return {
    encode: (value) =>
      value === null ? encodeXdrUnsigned(0) : Buffer.concat([encodeXdrUnsigned(1), codec.encode(value)]),
    decode: (reader) => reader.optional(() => codec.decode(reader)) ?? null,
  };
}

/** RFC 4506 §4.13: an array of variable length. */
export function xdrList<Value>(codec: XdrCodec<Value>, limit: number): XdrCodec<readonly Value[]> {
  return {
    encode: (values) => {
      if (values.length > limit)
        throw new TrustError(
          'rpc.too_long',
          'internal',
          `cannot send ${values.length} values: ${limit} are most`,
        );
      return Buffer.concat([encodeXdrUnsigned(values.length), ...values.map((value) => codec.encode(value))]);
    },
    decode: (reader) => {
      const count = reader.unsigned();
      // SECURITY: judged before anything is read, so that a peer cannot make us build more than libvirt would.
      if (count > limit) throw malformed(`a list of ${count}`);
      return Array.from({ length: count }, () => codec.decode(reader));
    },
  };
}

/** RFC 4506 §4.14: a structure, its fields in the order of the object. */
export function xdrStruct<Value extends object>(
  fields: {
    readonly [Name in keyof Value]: XdrCodec<Value[Name]>;
  },
): XdrCodec<Readonly<Value>> {
  const names = Object.keys(fields) as (keyof Value)[];
  return {
    encode: (value) => Buffer.concat(names.map((name) => fields[name].encode(value[name]))),
    decode: (reader) => Object.fromEntries(names.map((name) => [name, fields[name].decode(reader)])) as Value,
  };
}

/** A whole payload; refuses what is left over. */
export function decodeWhole<Value>(codec: XdrCodec<Value>, payload: Uint8Array): Value {
  const reader = new XdrReader(payload);
  const value = codec.decode(reader);
  reader.end();
  return value;
}

function counted(reader: XdrReader, limit: number, what: string): Uint8Array {
  const length = reader.unsigned();
  if (length > limit) throw malformed(`${what} of ${length} bytes`);
  return reader.opaque(length);
}

function eight(write: (bytes: Buffer) => void): Uint8Array {
  const bytes = Buffer.alloc(8);
  write(bytes);
  return bytes;
}

function take(reader: XdrReader, length: number): Buffer {
  const bytes = reader.opaque(length);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function malformed(reason: string): TrustError {
  return new TrustError('rpc.malformed', 'failed', `cannot read libvirt's message: ${reason}`);
}
