import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SshSession } from './ssh.ts';

/** The one executable that is deployed, and where it goes on a host. */
const DIRECTORY = '/usr/local/lib/virt-trust';
const REMOTE_PROGRAM = `${DIRECTORY}/virt-trust`;

/** What a machine says of itself before anything is done to it. */
export interface RemoteFacts {
  /** `sudo -n ` where the login is not root's but may become root, else empty. */
  readonly elevate: string;
  readonly machine: string;
  /** Seconds since 1970 by the host's clock. */
  readonly now: number;
  /** From where the host sees the manager's SSH connection come; null where it does not say. */
  readonly managerAddress: string | null;
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
  if (answer.code !== 0) throw cut(hostName, 'looking at it', answer.stderr);
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
  if (!Number.isSafeInteger(now)) throw cut(hostName, 'reading its clock', answer.stderr);
  const digest = facts.get('digest') ?? '';
  return {
    elevate: facts.get('uid') === '0' ? '' : 'sudo -n ',
    machine: facts.get('machine') ?? '',
    now,
    managerAddress: facts.get('client') || null,
    programDigest: /^[0-9a-f]{64}$/.test(digest) ? digest : null,
  };
}

function isLibcRecent(text: string): boolean {
  const version = /^glibc (\d{1,4})\.(\d{1,4})/.exec(text);
  return (
    version !== null && (Number(version[1]) > 2 || (Number(version[1]) === 2 && Number(version[2]) >= 28))
  );
}

function cut(hostName: string, doing: string, stderr: string): TrustError {
  return new TrustError(
    'ssh.interrupted',
    'unavailable',
    `cannot go on with host ${hostName}: the SSH session ended while ${doing}: ${stderr.slice(0, 2000) || 'no word from ssh'}`,
    {
      hint: 'run the same command again; it goes on where it was',
    },
  );
}

/** The deployable program with its digest, read once. */
export interface Program {
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
}

const digests = new Map<string, { mtimeMs: number; program: Program }>();

/** Reads the digest of the executable that is deployed; throws `program.missing`. */
export async function readProgram(path: string): Promise<Program> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new TrustError('program.missing', 'failed', `cannot deploy: the program ${path} is not there`, {
      cause,
      hint: 'build it with: ./virt-trust build',
    });
  });
  const known = digests.get(path);
  if (known !== undefined && known.mtimeMs === info.mtimeMs && known.program.bytes === info.size)
    return known.program;
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  const program = { path, sha256: hash.digest('hex'), bytes: info.size };
  digests.set(path, { mtimeMs: info.mtimeMs, program });
  return program;
}

/**
 * Copies the program where its digest differs; the file in place is always a whole one. A session that was cut off may
 * still be ending on the host, so each has a name of its own for what it copies. Returns whether it copied.
 */
export async function copyProgram(
  session: SshSession,
  facts: RemoteFacts,
  program: Program,
  hostName: string,
  signal: AbortSignal,
): Promise<boolean> {
  if (facts.programDigest === program.sha256) return false;
  const script = `set -eu
umask 022
mkdir -p ${DIRECTORY}
rm -f ${DIRECTORY}/.virt-trust.new*
new=$(mktemp ${DIRECTORY}/.virt-trust.new.XXXXXX)
trap 'rm -f "$new"' EXIT
cat >"$new"
[ "$(sha256sum "$new" | cut -d ' ' -f 1)" = ${program.sha256} ] || { echo "the copy is not whole" >&2; exit 75; }
chmod 755 "$new"
sync "$new" 2>/dev/null || sync
mv -f "$new" ${REMOTE_PROGRAM}
mkdir -p /usr/local/bin
[ -e /usr/local/bin/virt-trust ] || ln -s ${REMOTE_PROGRAM} /usr/local/bin/virt-trust`;
  const answer = await session.run(facts.elevate + quoteShell(['sh', '-c', script]), {
    input: { file: program.path },
    timeoutMs: 30 * 60_000,
    signal,
  });
  if (answer.code === 255) throw cut(hostName, 'copying the program', answer.stderr);
  if (answer.code !== 0) {
    throw new TrustError(
      'host.copy_failed',
      'failed',
      `cannot copy the program to host ${hostName}: ${answer.stderr.slice(0, 2000) || `exit code ${answer.code}`}`,
      {
        hint: `look at free space and write access of ${DIRECTORY} on the host, then run the same command again`,
      },
    );
  }
  return true;
}

/** Runs the deployed program on the host, JSON in and JSON out. Throws what it says on standard error. */
export async function runRemoteProgram(
  session: SshSession,
  facts: RemoteFacts,
  args: readonly string[],
  input: unknown,
  hostName: string,
  signal: AbortSignal,
): Promise<unknown> {
  const answer = await session.run(facts.elevate + quoteShell([REMOTE_PROGRAM, ...args]), {
    input: JSON.stringify(input),
    timeoutMs: 5 * 60_000,
    signal,
  });
  if (answer.code === 255) throw cut(hostName, `running virt-trust ${args.join(' ')}`, answer.stderr);
  if (answer.code !== 0) throw remoteError(answer.stderr, args, hostName, answer.code);
  try {
    return JSON.parse(answer.stdout);
  } catch (cause) {
    throw new TrustError(
      'host.answer_malformed',
      'failed',
      `cannot read the answer of virt-trust ${args.join(' ')} on host ${hostName}: not JSON`,
      { cause },
    );
  }
}

function remoteError(stderr: string, args: readonly string[], hostName: string, code: number): TrustError {
  const message = /^error: (.*)$/m.exec(stderr)?.[1] ?? (stderr.slice(-2000) || `exit code ${code}`);
  const hint = /^hint: (.*)$/m.exec(stderr)?.[1];
  return new TrustError(
    'host.install_failed',
    'failed',
    `cannot run virt-trust ${args.join(' ')} on host ${hostName}: ${message}`,
    hint === undefined ? {} : { hint },
  );
}

/** Quotes words for a POSIX shell. */
function quoteShell(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
}
