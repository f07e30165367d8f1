/** What the operating system refused, and the way out. */
export interface SystemRefusal {
  readonly code: string;
  readonly hint: string;
}

const REFUSALS: Readonly<Record<string, SystemRefusal>> = {
  ENOSPC: {
    code: 'host.disk_full',
    hint: 'free some space on the file system that is named, then provision the host again',
  },
  EDQUOT: {
    code: 'host.disk_full',
    hint: 'raise the quota of the file system that is named, then provision the host again',
  },
  EROFS: {
    code: 'host.read_only',
    hint: 'make the file system that is named writable for the deployment (mount -o remount,rw), then provision again; afterwards nothing writes there',
  },
  EACCES: {
    code: 'host.not_permitted',
    hint: 'see whether a security module or the unit of the agent denies that path',
  },
  EPERM: {
    code: 'host.not_permitted',
    hint: 'see whether the file is immutable (lsattr) or a security module denies it',
  },
};

/** Finds what the operating system refused in an error or its causes; undefined where it is none that an operator mends. */
export function systemRefusal(error: unknown): SystemRefusal | undefined {
  let current = error;
  for (let depth = 0; depth < 8 && current instanceof Error; depth++) {
    const { code } = current as NodeJS.ErrnoException;
    if (typeof code === 'string' && Object.hasOwn(REFUSALS, code)) return REFUSALS[code];
    current = current.cause;
  }
  return undefined;
}
