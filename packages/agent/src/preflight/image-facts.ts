import { constants } from 'node:fs';
import { open } from 'node:fs/promises';

/** An image as its first bytes have it. */
export interface ImageFacts {
  readonly format: 'qcow2' | 'other';
  /** As the guest would see it; of what is no qcow2 the size of the file. */
  readonly bytes: number;
}

const QCOW_MAGIC = 0x514649fb;
const SIZE_AT = 24;

/**
 * The size of a disk image (QEMU's qcow2.txt, bytes 24 to 31). SECURITY: which file that is may be another host's word, so
 * nothing but these bytes is read, no backing file followed, and a pipe is not waited for. Null for what is no file.
 */
export async function readImage(path: string): Promise<ImageFacts | null> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  if (file === undefined) return null;
  try {
    const found = await file.stat();
    if (!found.isFile()) return null;
    const head = Buffer.alloc(SIZE_AT + 8);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    return bytesRead === head.length && head.readUInt32BE(0) === QCOW_MAGIC
      ? { format: 'qcow2', bytes: Number(head.readBigUInt64BE(SIZE_AT)) }
      : { format: 'other', bytes: found.size };
  } catch {
    return null;
  } finally {
    await file.close();
  }
}
