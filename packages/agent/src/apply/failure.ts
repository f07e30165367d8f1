import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Failure } from '@virt-trust/contract/model/observed-state.ts';

const SYSTEM: Readonly<Record<string, readonly [code: string, hint: string]>> = {
  ENOSPC: [
    'host.disk_full',
    'free some space on the file system that is named, then provision the host again',
  ],
  EDQUOT: [
    'host.disk_full',
    'raise the quota of the file system that is named, then provision the host again',
  ],
  EROFS: [
    'host.read_only',
    'make the file system that is named writable for the deployment (mount -o remount,rw), then provision again; afterwards nothing writes there',
  ],
  EACCES: ['host.not_permitted', 'see whether a security module or the unit of the agent denies that path'],
  EPERM: ['host.not_permitted', 'see whether the file is immutable (lsattr) or a security module denies it'],
};

/** What of a failed step is reported; text without control characters and bounded. */
export function failureOf(error: unknown, step: string, at: Instant): Failure {
  const system = systemError(error);
  const known = system === undefined ? undefined : SYSTEM[system];
  const code = isTrustError(error) ? error.code : (known?.[0] ?? 'apply.failed');
  const hint = isTrustError(error) && error.hint !== undefined ? error.hint : known?.[1];
  const message = clean(describeError(error));
  return { code: clean(code), message, step, at, ...(hint === undefined ? {} : { hint: clean(hint) }) };
}

function systemError(error: unknown): string | undefined {
  let current = error;
  for (let depth = 0; depth < 8 && current instanceof Error; depth++) {
    const { code } = current as NodeJS.ErrnoException;
    if (typeof code === 'string' && /^E[A-Z]+$/.test(code)) return code;
    current = current.cause;
  }
  return undefined;
}

/** Text that fits the contract. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, ' ').slice(0, 4000);
}
