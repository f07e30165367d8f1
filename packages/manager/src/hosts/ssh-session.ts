import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SshTarget } from '@virt-trust/contract/model/ssh.ts';
import {
  COMMON_OPTIONS,
  HOST_KEY_ALIAS,
  runSsh,
  type SshResult,
  type SshRunOptions,
  targetArguments,
  unreachable,
} from './ssh-client.ts';

/** A multiplexed SSH session to a host whose key is pinned. */
export class SshSession {
  readonly target: SshTarget;
  readonly #directory: string;

  private constructor(target: SshTarget, directory: string) {
    this.target = target;
    this.#directory = directory;
  }

  /** Logs in; throws `ssh.host_key_changed`, `ssh.login_refused` or `ssh.unreachable`. */
  static async open(target: SshTarget, hostKey: string, signal?: AbortSignal): Promise<SshSession> {
    const directory = await mkdtemp(join(tmpdir(), 'vt-ssh-'));
    const session = new SshSession(target, directory);
    try {
      await writeFile(join(directory, 'known_hosts'), `${HOST_KEY_ALIAS} ${hostKey}\n`, { mode: 0o600 });
      const result = await session.run('true', {
        timeoutMs: 60_000,
        ...(signal === undefined ? {} : { signal }),
      });
      if (result.code !== 0) throw loginError(target, result);
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  /** Runs a command line of the remote shell; the caller quotes. */
  async run(command: string, options: SshRunOptions): Promise<SshResult> {
    return runSsh([...this.#arguments(), '--', this.target.destination, command], options);
  }

  #arguments(): string[] {
    const inDirectory = (file: string) => join(this.#directory, file);
    return [
      ...COMMON_OPTIONS,
      ...targetArguments(this.target),
      '-o',
      'StrictHostKeyChecking=yes',
      '-o',
      `UserKnownHostsFile=${inDirectory('known_hosts')}`,
      '-o',
      'ControlMaster=auto',
      '-o',
      `ControlPath=${inDirectory('c')}`,
      '-o',
      'ControlPersist=60',
    ];
  }

  async close(): Promise<void> {
    await runSsh([...this.#arguments(), '-O', 'exit', '--', this.target.destination], {
      timeoutMs: 10_000,
    }).catch(() => {});
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function loginError(target: SshTarget, result: SshResult): TrustError {
  if (
    /host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|no matching host key type/i.test(
      result.stderr,
    )
  ) {
    return new TrustError(
      'ssh.host_key_changed',
      'denied',
      `cannot log in to ${target.destination}: its SSH host key is not the one that was accepted`,
      {
        hint: 'find out why it changed; then remove the host with --force and add it anew with --ssh-fingerprint',
      },
    );
  }
  if (/permission denied|too many authentication failures/i.test(result.stderr)) {
    return new TrustError(
      'ssh.login_refused',
      'denied',
      `cannot log in to ${target.destination}: ${result.stderr.slice(0, 500)}`,
      {
        hint: "give the manager's user a key that this host accepts (ssh-copy-id), or name one with --ssh-identity",
      },
    );
  }
  return unreachable(target, result.stderr);
}
