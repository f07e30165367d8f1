import { TrustError } from '@virt-trust/base/error.ts';

/** `REDQ`, as SpiceLinkHeader begins (spice-protocol, spice/protocol.h). */
const MAGIC = 0x51444552;
const HEADER = 16;
const MESSAGE = 18;
const MAIN_CHANNEL = 1;
/** Far above what a server answers with. */
const SIZE_LIMIT = 4096;

/** SpiceLinkErr. */
const ERRORS: readonly string[] = [
  'ok',
  'error',
  'invalid magic',
  'invalid data',
  'version mismatch',
  'it wants this channel over TLS',
  'it wants this channel without TLS',
  'permission denied',
  'bad connection id',
  'channel not available',
];

/** SpiceLinkHeader and SpiceLinkMess for the main channel, with no capabilities. */
export function encodeSpiceLink(): Uint8Array {
  const bytes = Buffer.alloc(HEADER + MESSAGE);
  for (const [index, value] of [MAGIC, 2, 2, MESSAGE].entries()) bytes.writeUInt32LE(value, 4 * index);
  bytes.writeUInt8(MAIN_CHANNEL, HEADER + 4);
  bytes.writeUInt32LE(MESSAGE, HEADER + 14);
  return bytes;
}

/** The server's SpiceLinkReply as far as it tells whether it takes us; undefined where more bytes are needed. */
export function decodeSpiceLinkReply(bytes: Uint8Array): { readonly version: string } | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length >= 4 && view.readUInt32LE(0) !== MAGIC)
    throw refused('spice.malformed', 'it does not speak SPICE');
  if (view.length < HEADER + 4) return undefined;
  const size = view.readUInt32LE(12);
  if (size < 4 || size > SIZE_LIMIT) throw refused('spice.malformed', `a reply of ${size} bytes`);
  const error = view.readUInt32LE(HEADER);
  if (error !== 0) throw refused('spice.refused', ERRORS[error] ?? `error ${error}`);
  return { version: `${view.readUInt32LE(4)}.${view.readUInt32LE(8)}` };
}

function refused(code: string, reason: string): TrustError {
  return new TrustError(code, 'failed', `cannot link with the SPICE server: ${reason}`);
}
