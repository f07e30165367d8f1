import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SshTarget } from '@virt-trust/contract/model/ssh.ts';
import { COMMON_OPTIONS, runSsh, targetArguments, unreachable } from './ssh-client.ts';
import { type KnownHostKey, parseKnownHosts } from './ssh-host-key.ts';

const KEY_TYPES = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'rsa-sha2-512,rsa-sha2-256'];

/** Shows a machine's SSH host keys without logging in: nothing is run on it. Throws `ssh.unreachable`. */
export async function scanHostKeys(target: SshTarget, signal?: AbortSignal): Promise<KnownHostKey[]> {
  const directory = await mkdtemp(join(tmpdir(), 'vt-scan-'));
  try {
    const answers = await Promise.all(
      KEY_TYPES.map((types, index) => scanOne(target, types, join(directory, String(index)), signal)),
    );
    const keys = answers.flatMap((answer) => answer.keys);
    if (keys.length === 0) throw unreachable(target, answers[0]?.stderr ?? '');
    return keys;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function scanOne(target: SshTarget, types: string, file: string, signal: AbortSignal | undefined) {
  await writeFile(file, '', { mode: 0o600 });
  const result = await runSsh(
    // SECURITY: authentication `none` only, so that nothing is sent or run before the key was accepted.
    [
      ...COMMON_OPTIONS,
      ...targetArguments(target),
      '-o',
      'PreferredAuthentications=none',
      '-o',
      'ControlPath=none',
      '-o',
      `HostKeyAlgorithms=${types}`,
      '-o',
      'StrictHostKeyChecking=accept-new',
      '-o',
      `UserKnownHostsFile=${file}`,
      '--',
      target.destination,
      'true',
    ],
    { timeoutMs: 30_000, ...(signal === undefined ? {} : { signal }) },
  );
  return { keys: parseKnownHosts(await readFile(file, 'utf8')), stderr: result.stderr };
}
