import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { TrustError } from '@virt-trust/base/error.ts';
import type { RemoteFacts } from './remote-facts.ts';
import { interrupted, PROGRAM_DIRECTORY, quoteShell, REMOTE_PROGRAM } from './remote-shell.ts';
import type { SshSession } from './ssh-session.ts';

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
mkdir -p ${PROGRAM_DIRECTORY}
rm -f ${PROGRAM_DIRECTORY}/.virt-trust.new*
new=$(mktemp ${PROGRAM_DIRECTORY}/.virt-trust.new.XXXXXX)
trap 'rm -f "$new"' EXIT
${facts.unpacks === 'zstd' ? 'zstd -dcq' : 'cat'} >"$new"
[ "$(sha256sum "$new" | cut -d ' ' -f 1)" = ${program.sha256} ] || { echo "the copy is not whole" >&2; exit 75; }
chmod 755 "$new"
sync "$new" 2>/dev/null || sync
mv -f "$new" ${REMOTE_PROGRAM}
mkdir -p /usr/local/bin
[ -e /usr/local/bin/virt-trust ] || ln -s ${REMOTE_PROGRAM} /usr/local/bin/virt-trust`;
  const answer = await session.run(facts.elevate + quoteShell(['sh', '-c', script]), {
    input: { file: program.path, packed: facts.unpacks },
    timeoutMs: 30 * 60_000,
    signal,
  });
  if (answer.code === 255) throw interrupted(hostName, 'copying the program', answer.stderr);
  if (answer.code !== 0) {
    throw new TrustError(
      'host.copy_failed',
      'failed',
      `cannot copy the program to host ${hostName}: ${answer.stderr.slice(0, 2000) || `exit code ${answer.code}`}`,
      {
        hint: `look at free space and write access of ${PROGRAM_DIRECTORY} on the host, then run the same command again`,
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
  if (answer.code === 255) throw interrupted(hostName, `running virt-trust ${args.join(' ')}`, answer.stderr);
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
