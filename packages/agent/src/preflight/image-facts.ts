import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** An image as its first bytes have it. */
export interface ImageFacts {
  readonly format: 'qcow2' | 'other';
  /** As the guest would see it; of what is no qcow2 the size of the file. */
  readonly bytes: number;
  /** The file that it is based on, and its format where it says that; null where it names none, or none of the host's. */
  readonly base: { readonly path: string; readonly format: string } | null;
}

const QCOW_MAGIC = 0x514649fb;
const BASE_AT = 8;
const SIZE_AT = 24;
const V2_BYTES = 72;
const HEADER_BYTES_AT = 100;
const BASE_FORMAT = 0xe2792aca;
/** As QEMU has it: longer ones are not opened. */
const BASE_NAME_MAX = 1023;

/**
 * Size and base of a disk image (QEMU's qcow2.txt, bytes 8 to 31). SECURITY: which file that is may be another host's word,
 * so nothing but these bytes and the base's name is read, no device is opened, and a pipe is not waited for. Null for what
 * is no file.
 */
export async function readImage(path: string): Promise<ImageFacts | null> {
  // To open a device may be to do something with it, as with /dev/watchdog.
  if ((await stat(path).catch(() => undefined))?.isFile() !== true) return null;
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  if (file === undefined) return null;
  try {
    const found = await file.stat();
    if (!found.isFile()) return null;
    const head = Buffer.alloc(SIZE_AT + 8);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    return bytesRead === head.length && head.readUInt32BE(0) === QCOW_MAGIC
      ? {
          format: 'qcow2',
          bytes: Number(head.readBigUInt64BE(SIZE_AT)),
          base: await baseOf(file, head, path),
        }
      : { format: 'other', bytes: found.size, base: null };
  } catch {
    return null;
  } finally {
    await file.close();
  }
}

async function baseOf(file: FileHandle, head: Buffer, path: string): Promise<ImageFacts['base']> {
  const [at, length] = [head.readBigUInt64BE(BASE_AT), head.readUInt32BE(BASE_AT + 8)];
  if (at === 0n || at > BigInt(Number.MAX_SAFE_INTEGER) || length === 0 || length > BASE_NAME_MAX)
    return null;
  const name = Buffer.alloc(length);
  const { bytesRead } = await file.read(name, 0, length, Number(at));
  const text = name.toString('utf8');
  // `json:{...}` and `nbd://...` are no paths (QEMU's path_has_protocol).
  if (bytesRead !== length || text.includes('\0') || /^[^/]*:/.test(text)) return null;
  return { path: resolve(dirname(path), text), format: await baseFormatOf(file) };
}

/** The header extension of that name, among those that come before any other data. */
async function baseFormatOf(file: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
  const version = bytesRead < V2_BYTES ? 0 : buffer.readUInt32BE(4);
  let at = version === 2 ? V2_BYTES : bytesRead >= 104 ? buffer.readUInt32BE(HEADER_BYTES_AT) : bytesRead;
  while (at + 8 <= bytesRead) {
    const [type, length] = [buffer.readUInt32BE(at), buffer.readUInt32BE(at + 4)];
    if (type === 0 || at + 8 + length > bytesRead) break;
    if (type === BASE_FORMAT) return buffer.toString('latin1', at + 8, at + 8 + length);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return '';
}
