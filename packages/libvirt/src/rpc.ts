import { TrustError } from '@virt-trust/base/error.ts';
import { encodeXdrString, encodeXdrUnsigned, XdrReader } from './xdr.ts';

/** libvirt's remote program and the version of its protocol (remote_protocol.x). */
const PROGRAM = 0x20008086;
const VERSION = 1;
const HEADER_LENGTH = 28;
const CALL = 0;
const REPLY = 1;
const AUTH_TYPES = ['none', 'sasl', 'polkit'] as const;
const AUTH_TYPE_LIST_LIMIT = 20;

/** The byte that a libvirt server sends in a record of its own once it accepted the client's certificate. */
export const TLS_CONFIRMATION = 0x01;

/** Numbers of the procedures that virt-trust calls (remote_protocol.x, `REMOTE_PROC_*`). */
export const PROCEDURES = {
  connectOpen: 1,
  connectClose: 2,
  connectGetHostname: 59,
  authList: 66,
  connectGetLibVersion: 157,
} as const;

/** The flag of CONNECT_OPEN for a connection that changes nothing (`VIR_CONNECT_RO`). */
export const CONNECT_READ_ONLY = 1;

/** One packet of libvirt's RPC: u32 length with itself, six u32 of header, payload in XDR. */
export interface RpcPacket {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly type: number;
  readonly serial: number;
  readonly status: number;
  readonly payload: Uint8Array;
}

/** An error that a libvirt daemon answered with (`virNetMessageError`). */
export interface RemoteError {
  readonly code: number;
  readonly domain: number;
  readonly message: string;
}

/** A way of authentication that the server demands after TLS; a number where this code knows no name. */
export type AuthType = (typeof AUTH_TYPES)[number] | number;

/** Encodes a call with its arguments in XDR. */
export function encodeCall(
  procedure: number,
  serial: number,
  payload: Uint8Array = new Uint8Array(),
): Uint8Array {
  return encodePacket({
    program: PROGRAM,
    version: VERSION,
    procedure,
    type: CALL,
    serial,
    status: 0,
    payload,
  });
}

/** Encodes any packet, a reply for instance. */
export function encodePacket(packet: RpcPacket): Uint8Array {
  const header = Buffer.alloc(HEADER_LENGTH);
  const { program, version, procedure, type, serial, status, payload } = packet;
  for (const [index, value] of [
    HEADER_LENGTH + payload.length,
    program,
    version,
    procedure,
    type,
    serial,
    status,
  ].entries()) {
    header.writeUInt32BE(value >>> 0, index * 4);
  }
  return Buffer.concat([header, payload]);
}

/** The arguments of CONNECT_OPEN. */
export function encodeConnectOpen(uri: string, flags: number): Uint8Array {
  return Buffer.concat([encodeXdrUnsigned(1), encodeXdrString(uri), encodeXdrUnsigned(flags)]);
}

/** Pieces that are kept apart at most: each is an object of its own, however small. */
const CHUNKS = 1024;

/** Cuts a stream of bytes into packets, of at most `limit` bytes each; throws `rpc.malformed`. */
export class RpcPacketReader {
  readonly #limit: number;
  #chunks: Uint8Array[] = [];
  #length = 0;
  /** Bytes that are needed for the next step: for a packet's length, or for the rest of it. */
  #needed = 4;

  constructor(limit = 1024 * 1024) {
    this.#limit = limit;
  }

  /** The packets that are whole with these bytes. */
  push(bytes: Uint8Array): RpcPacket[] {
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    // SECURITY: put together once there is enough, so that a peer that sends byte by byte costs no copy for each.
    if (this.#length < this.#needed) {
      if (this.#chunks.length >= CHUNKS) this.#chunks = [Buffer.concat(this.#chunks)];
      return [];
    }
    let pending = Buffer.concat(this.#chunks);
    const packets: RpcPacket[] = [];
    this.#needed = 4;
    while (pending.length >= 4) {
      const length = pending.readUInt32BE(0);
      // SECURITY: judged before the bytes are waited for, so that a peer cannot make us keep more.
      if (length < HEADER_LENGTH || length > this.#limit) throw malformed(`a packet of ${length} bytes`);
      if (pending.length < length) {
        this.#needed = length;
        break;
      }
      packets.push(decodePacket(pending.subarray(0, length)));
      pending = pending.subarray(length);
    }
    this.#chunks = [pending];
    this.#length = pending.length;
    return packets;
  }
}

function decodePacket(bytes: Buffer): RpcPacket {
  const [program, version, procedure, type, serial, status] = [4, 8, 12, 16, 20, 24].map((offset) =>
    bytes.readUInt32BE(offset),
  ) as [number, number, number, number, number, number];
  const payload = Buffer.from(bytes.subarray(HEADER_LENGTH));
  return { program, version, procedure, type, serial, status, payload };
}

/**
 * The answer to the call of that procedure and serial number, if the packet is it: events and keep-alives are
 * none. Throws `rpc.malformed`.
 */
export function decodeReply(
  packet: RpcPacket,
  procedure: number,
  serial: number,
):
  | { readonly kind: 'ok'; readonly payload: Uint8Array }
  | { readonly kind: 'error'; readonly error: RemoteError }
  | { readonly kind: 'unrelated' } {
  if (packet.program !== PROGRAM || packet.type !== REPLY) return { kind: 'unrelated' };
  if (packet.version !== VERSION) throw malformed(`protocol version ${packet.version}`);
  if (packet.serial !== serial || packet.procedure !== procedure) {
    throw malformed(
      `an answer to call ${packet.serial} of procedure ${packet.procedure}, which was not made`,
    );
  }
  if (packet.status === 0) return { kind: 'ok', payload: packet.payload };
  if (packet.status === 1) return { kind: 'error', error: readRemoteError(packet.payload) };
  throw malformed(`status ${packet.status} in an answer`);
}

/** The result of AUTH_LIST. */
export function decodeAuthList(payload: Uint8Array): AuthType[] {
  const xdr = new XdrReader(payload);
  const count = xdr.unsigned();
  if (count > AUTH_TYPE_LIST_LIMIT) throw malformed(`${count} ways of authentication`);
  const types = Array.from({ length: count }, () => {
    const type = xdr.unsigned();
    return AUTH_TYPES[type] ?? type;
  });
  xdr.end();
  return types;
}

/** The result of CONNECT_GET_LIB_VERSION, as `9.0.0`. */
export function decodeLibVersion(payload: Uint8Array): string {
  const xdr = new XdrReader(payload);
  const version = xdr.unsigned() * 2 ** 32 + xdr.unsigned();
  xdr.end();
  return [Math.floor(version / 1e6), Math.floor(version / 1e3) % 1e3, version % 1e3].join('.');
}

/** The result of CONNECT_GET_HOSTNAME. */
export function decodeHostname(payload: Uint8Array): string {
  const xdr = new XdrReader(payload);
  const name = xdr.string();
  xdr.end();
  return name;
}

/** The error in a packet of status 1; throws `rpc.malformed`. */
export function readRemoteError(payload: Uint8Array): RemoteError {
  const xdr = new XdrReader(payload);
  const code = xdr.integer();
  const domain = xdr.integer();
  const message = xdr.optional(() => xdr.string());
  // level, domain object, three strings, two integers and a network object follow; they say nothing more.
  return { code, domain, message: message ?? `error ${code}` };
}

function malformed(reason: string): TrustError {
  return new TrustError('rpc.malformed', 'failed', `cannot read libvirt's message: ${reason}`);
}
