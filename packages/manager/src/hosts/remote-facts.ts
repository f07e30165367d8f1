import { TrustError } from '@virt-trust/base/error.ts';
import { interrupted, quoteShell, REMOTE_PROGRAM } from './remote-shell.ts';
import type { SshSession } from './ssh-session.ts';

/** What a machine says of itself before anything is done to it. */
export interface RemoteFacts {
  /** `sudo -n ` where the login is not root's but may become root, else empty. */
  readonly elevate: string;
  readonly machine: string;
  /** Seconds since 1970 by the host's clock. */
  readonly now: number;
  /** From where the host sees the manager's SSH connection come; null where it does not say. */
  readonly managerAddress: string | null;
  /** What it can unpack. */
  readonly unpacks: 'zstd' | null;
  /** SHA-256 of the program that is there; null where there is none. */
  readonly programDigest: string | null;
}

/** Reads only; its answer is `key=value` lines. */
const FACTS = `LC_ALL=C; export LC_ALL
echo "uid=$(id -u)"
if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then echo sudo=yes; fi
echo "system=$(uname -s)"
echo "machine=$(uname -m)"
echo "now=$(date +%s)"
echo "client=\${SSH_CONNECTION%% *}"
command -v zstd >/dev/null 2>&1 && echo unpacks=zstd
[ -d /run/systemd/system ] && echo systemd=yes
echo "libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)"
command -v sha256sum >/dev/null 2>&1 && [ -f ${REMOTE_PROGRAM} ] && echo "digest=$(sha256sum ${REMOTE_PROGRAM} | cut -d ' ' -f 1)"
true`;

/** Looks at a machine over SSH; throws `host.unsuitable` where virt-trust cannot run on it. */
export async function readRemoteFacts(
  session: SshSession,
  hostName: string,
  signal: AbortSignal,
): Promise<RemoteFacts> {
  const answer = await session.run(quoteShell(['sh', '-c', FACTS]), { timeoutMs: 60_000, signal });
  if (answer.code !== 0) throw interrupted(hostName, 'looking at it', answer.stderr);
  const facts = new Map(
    answer.stdout
      .split('\n')
      .map((line) => [line.split('=', 1)[0] ?? '', line.slice(line.indexOf('=') + 1)] as const),
  );
  const unsuitable = (why: string, hint: string) =>
    new TrustError('host.unsuitable', 'invalid', `cannot deploy to host ${hostName}: ${why}`, { hint });
  if (facts.get('system') !== 'Linux' || facts.get('systemd') !== 'yes') {
    throw unsuitable('it does not run systemd on Linux', 'virt-trust deploys to Linux hosts with systemd');
  }
  if (facts.get('uid') !== '0' && facts.get('sudo') !== 'yes') {
    throw unsuitable(
      `the login is user ${facts.get('uid')}, not root, and may not use sudo without a password`,
      'log in as root@HOST, or allow this user sudo without a password',
    );
  }
  if (!isLibcRecent(facts.get('libc') ?? ''))
    throw unsuitable(`its C library is ${facts.get('libc') || 'not glibc'}`, 'glibc 2.28 or newer is needed');
  const now = Number(facts.get('now'));
  if (!Number.isSafeInteger(now)) throw interrupted(hostName, 'reading its clock', answer.stderr);
  const digest = facts.get('digest') ?? '';
  return {
    elevate: facts.get('uid') === '0' ? '' : 'sudo -n ',
    machine: facts.get('machine') ?? '',
    now,
    managerAddress: facts.get('client') || null,
    unpacks: facts.get('unpacks') === 'zstd' ? 'zstd' : null,
    programDigest: /^[0-9a-f]{64}$/.test(digest) ? digest : null,
  };
}

function isLibcRecent(text: string): boolean {
  const version = /^glibc (\d{1,4})\.(\d{1,4})/.exec(text);
  return (
    version !== null && (Number(version[1]) > 2 || (Number(version[1]) === 2 && Number(version[2]) >= 28))
  );
}
