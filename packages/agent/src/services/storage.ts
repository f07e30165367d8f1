import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { CONFIGURED_DIRECTORIES } from '../sets/layout.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { Expectation } from './host-effects.ts';
import { proveFiles } from './migration.ts';

const CLIENT_MS = 30_000;
const IMAGE_BYTES = 65_536;

/**
 * Sees QEMU's own TLS code use the files of backups, or of disks over NBD, as both ends do. Of what was found it is
 * seen only that QEMU loads it: it may be for a server elsewhere, which is not to be troubled.
 */
export async function proveStorage(
  service: 'nbd' | 'backup',
  paths: AgentPaths,
  run: RunHostCommand,
  expectation: Expectation,
  clock: Clock,
): Promise<Proof[]> {
  const directory = CONFIGURED_DIRECTORIES[service];
  if (expectation.identity === 'ours') {
    const detail = 'qemu-nbd and qemu-img, both ends verified, as the QEMU user';
    return await proveFiles(paths, run, expectation, clock, { directory, verifyClient: true, detail });
  }
  const endpoint = service === 'nbd' ? 'client' : 'server';
  await seeLoaded(paths, run, expectation, directory, endpoint);
  return [
    {
      kind: 'qemu-tls',
      target: `${endpoint} files in ${directory}`,
      at: clock.now(),
      by: 'agent',
      servedPin: expectation.pin,
      detail: 'qemu-img loads what was found, as the QEMU user',
    },
  ];
}

async function seeLoaded(
  paths: AgentPaths,
  run: RunHostCommand,
  { facts: { qemuUid: uid, qemuGid: gid } }: Expectation,
  directory: string,
  endpoint: 'client' | 'server',
): Promise<void> {
  await mkdir(paths.run, { recursive: true });
  const place = await mkdtemp(join(paths.run, 'proof-'));
  try {
    await chmod(place, 0o700);
    const image = join(place, 'image');
    await writeFile(image, Buffer.alloc(IMAGE_BYTES));
    for (const path of [image, place]) await chown(path, uid, gid);
    const object = `tls-creds-x509,id=tls0,endpoint=${endpoint},dir=${directory},verify-peer=on`;
    const args = [
      'info',
      '--object',
      object,
      '--image-opts',
      `driver=raw,file.driver=file,file.filename=${image}`,
    ];
    await run('qemu-img', args, { uid, gid, timeoutMs: CLIENT_MS });
  } catch (cause) {
    throw new TrustError(
      'proof.qemu_tls',
      'failed',
      `cannot use the certificate in ${directory}: ${describeError(cause)}`,
      { cause },
    );
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}
