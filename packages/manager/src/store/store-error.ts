import { isTrustError, TrustError } from '@virt-trust/base/error.ts';

/** SQLite's primary result codes that have a way out of their own (sqlite.org/rescode.html). */
const PRIMARY: Readonly<
  Record<number, readonly [code: string, category: 'unavailable' | 'conflict' | 'internal', hint: string]>
> = {
  5: ['store.busy', 'unavailable', 'another program holds the database; end it and try again'],
  8: ['store.read_only', 'unavailable', 'make the state directory and its files writable for the manager'],
  10: ['store.io', 'unavailable', 'look at the kernel log for errors of the disk under the state directory'],
  11: ['store.corrupt', 'internal', 'restore the state directory from a backup'],
  13: [
    'store.full',
    'unavailable',
    'make room on the disk of the state directory; nothing that was stored is lost',
  ],
  14: [
    'store.cannot_open',
    'unavailable',
    'check that the state directory exists and belongs to the manager',
  ],
  26: ['store.corrupt', 'internal', 'the file is not a database; restore the state directory from a backup'],
};

const UNIQUE = new Set([1555, 2067, 2579]);
const CONSTRAINT = 19;

/** The typed error of what SQLite or the file system threw; a TrustError stays as it is. */
export function storeError(what: string, cause: unknown): TrustError {
  if (isTrustError(cause)) return cause;
  const errcode = Number((cause as { errcode?: unknown }).errcode ?? fileErrorCode(cause));
  const reason = cause instanceof Error ? cause.message : String(cause);
  if (UNIQUE.has(errcode)) {
    return new TrustError('store.duplicate', 'conflict', `${what}: ${reason}`, { cause });
  }
  if ((errcode & 0xff) === CONSTRAINT) {
    return new TrustError('store.constraint', 'internal', `${what}: ${reason}`, { cause });
  }
  const known = PRIMARY[errcode & 0xff];
  if (known === undefined) return new TrustError('store.failed', 'internal', `${what}: ${reason}`, { cause });
  const [code, category, hint] = known;
  return new TrustError(code, category, `${what}: ${reason}`, { cause, hint });
}

/** The SQLite code that stands for an error of the file system. */
function fileErrorCode(cause: unknown): number {
  switch ((cause as { code?: unknown }).code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return 13;
    case 'EROFS':
      return 8;
    case 'EACCES':
    case 'EPERM':
    case 'ENOENT':
    case 'ENOTDIR':
      return 14;
    default:
      return 0;
  }
}
