import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { FileState } from '@virt-trust/libvirt/own-set.ts';

/** Who reads a file: a user with groups, as the mode bits count for it. */
export interface ReadingUser {
  /** As findings name it. */
  readonly name: string;
  readonly uid: number;
  readonly gids: readonly number[];
  /** Where the account is not known: any group but root's may be the user's. */
  readonly groupsUnknown?: boolean;
}

/** More of a file is never looked at; a CRL of a million entries is half of it. */
const READ_LIMIT = 48 << 20;

/** What a file is to whoever reads it; `user` where that is somebody else than this process. */
export async function readFileState(path: string, user?: ReadingUser): Promise<FileState> {
  let reached = false;
  try {
    const found = await stat(path);
    reached = true;
    if (found.isDirectory()) return { kind: 'unreadable', reason: 'it is a directory' };
    if (!found.isFile()) return { kind: 'unreadable', reason: 'it is no regular file' };
    if (user !== undefined && !mayRead(found, user)) {
      const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
      return {
        kind: 'unreadable',
        reason: `${user.name} may not (mode ${mode}, owner ${found.uid}:${found.gid})`,
      };
    }
    if (found.size > READ_LIMIT)
      return { kind: 'unreadable', reason: `it has more than ${READ_LIMIT} bytes` };
    return { kind: 'text', text: await readText(path) };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return { kind: 'missing' };
    if (code !== 'EACCES') return { kind: 'unreadable', reason: code };
    return { kind: 'unreadable', reason: 'permission denied', ...(reached ? {} : { hidden: true }) };
  }
}

async function readText(path: string): Promise<string> {
  // O_NONBLOCK: a pipe put there in between must not hold the check up.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const parts: Buffer[] = [];
    let length = 0;
    while (length < READ_LIMIT) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(1 << 16), 0, 1 << 16, null);
      if (bytesRead === 0) break;
      parts.push(buffer.subarray(0, bytesRead));
      length += bytesRead;
    }
    return Buffer.concat(parts).toString('latin1');
  } finally {
    await file.close();
  }
}

/** Whether the mode bits let a user read; root reads everything. */
function mayRead(file: { mode: number; uid: number; gid: number }, user: ReadingUser): boolean {
  return may(file, user, 4);
}

/** Whether the mode bits let a user pass through a directory. */
export function mayEnter(directory: { mode: number; uid: number; gid: number }, user: ReadingUser): boolean {
  return may(directory, user, 1);
}

function may(
  { mode, uid, gid }: { mode: number; uid: number; gid: number },
  user: ReadingUser,
  bit: number,
): boolean {
  if (user.uid === 0) return true;
  // path_resolution(7): the first class that fits decides.
  const inGroup = user.groupsUnknown === true ? gid !== 0 : user.gids.includes(gid);
  const shift = uid === user.uid ? 6 : inGroup ? 3 : 0;
  return ((mode >> shift) & bit) !== 0;
}
