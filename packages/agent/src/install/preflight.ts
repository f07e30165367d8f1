import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant, parseInstant } from '@virt-trust/base/instant.ts';
import type { AgentPaths } from '../state/paths.ts';
import { systemRefusal } from '../state/system-error.ts';

export interface HostConditions {
  readonly uid: number;
  readonly clock: Clock;
  /** Directories that the installation, or the agent after it, has to write. */
  readonly written: readonly string[];
}

/** What the agent writes besides its program: keys, certificates, events, copies of what was found. */
const NEEDED_BYTES = 32 * 1024 * 1024;
/** This was written after that, so a clock before it is wrong. */
const EARLIEST: Instant = parseInstant('2026-11-01T00:00:00Z');

/**
 * Refuses a host on which the installation would stop half way, before anything is written. Throws
 * `install.not_root`, `install.no_systemd`, `install.clock`, `install.not_writable`, `install.disk_full`.
 */
export async function checkHost(paths: AgentPaths, { uid, clock, written }: HostConditions): Promise<void> {
  if (uid !== 0) {
    throw refusal('install.not_root', 'denied', `this is user number ${uid}, not root`, {
      hint: 'Connect as root, or as a user who may run the program with sudo.',
    });
  }
  const systemd = await stat(paths.at('/run/systemd/system')).catch(() => undefined);
  if (systemd === undefined) {
    throw refusal('install.no_systemd', 'failed', 'the host was not booted with systemd', {
      hint: 'virt-trust needs systemd to run its agent.',
    });
  }
  const now = clock.now();
  if (now < EARLIEST) {
    throw refusal('install.clock', 'failed', `the host's clock says ${formatInstant(now)}`, {
      hint: 'Set the clock of the host: timedatectl set-ntp true.',
    });
  }
  for (const directory of written) await checkWritable(directory);
  await checkSpace(paths.state);
}

async function checkWritable(directory: string): Promise<void> {
  try {
    await access(await nearestExisting(directory), constants.W_OK);
  } catch (cause) {
    const readOnly = (cause as NodeJS.ErrnoException).code === 'EROFS';
    throw refusal(
      'install.not_writable',
      'failed',
      readOnly ? `${directory} is on a read-only file system` : `${directory} is not writable`,
      {
        context: { directory },
        hint: readOnly
          ? 'Make it writable for the installation (mount -o remount,rw); afterwards it may be read-only again.'
          : `Look at it with: ls -ld ${directory}.`,
        cause,
      },
    );
  }
}

async function checkSpace(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(await nearestExisting(directory));
  if (bavail * bsize < NEEDED_BYTES) throw diskFull(`at ${directory}`);
}

async function nearestExisting(directory: string): Promise<string> {
  let current = directory;
  while (dirname(current) !== current && (await stat(current).catch(() => undefined)) === undefined)
    current = dirname(current);
  return current;
}

/** Names what a failing write of the installation means. */
export function explainWriteError(error: unknown): unknown {
  const known = systemRefusal(error);
  if (known === undefined) return error;
  if (known.code === 'host.disk_full') return diskFull(`to go on: ${describeError(error)}`, error);
  return refusal('install.not_writable', 'failed', describeError(error), {
    hint: 'Make it writable and run the same again; it goes on where it stopped.',
    cause: error,
  });
}

function diskFull(where: string, cause?: unknown): TrustError {
  return refusal('install.disk_full', 'failed', `no space is left ${where}`, {
    hint: `Free ${NEEDED_BYTES / 1024 / 1024} MiB and run the same again; it goes on where it stopped.`,
    ...(cause === undefined ? {} : { cause }),
  });
}

function refusal(
  code: string,
  category: 'denied' | 'failed',
  reason: string,
  details: { hint: string; context?: Record<string, unknown>; cause?: unknown },
): TrustError {
  return new TrustError(code, category, `cannot install the agent: ${reason}`, details);
}
