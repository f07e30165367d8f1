import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { inParallel } from '@virt-trust/base/in-parallel.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { appears } from '../sets/barrier.ts';
import { CONFIGURED_DIRECTORIES } from '../sets/layout.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { Expectation } from './host-effects.ts';
import { QemuProgram } from './qemu-process.ts';

const CLIENT_MS = 30_000;
/** As many as hosts have cores to spare. */
const CLIENTS_AT_ONCE = 2;
const START_MS = 30_000;
const IMAGE_BYTES = 65_536;

/** Which files QEMU's TLS code is to use, and how. */
interface FilesToProve {
  readonly directory: string;
  /** Whether the server demands a certificate of its client, as both ends of a migration have. */
  readonly verifyClient: boolean;
  readonly detail: string;
}

/** Sees QEMU's own TLS code use the very files as both ends of a migration do. */
export function proveMigration(
  paths: AgentPaths,
  run: RunHostCommand,
  expectation: Expectation,
  clock: Clock,
): Promise<Proof[]> {
  return proveFiles(paths, run, expectation, clock, {
    directory: CONFIGURED_DIRECTORIES.migration,
    verifyClient: true,
    detail: 'qemu-nbd and qemu-img, both ends verified, as the QEMU user',
  });
}

/**
 * Sees QEMU's own TLS code use files as the QEMU user: an NBD server, which may demand a client certificate, and a
 * client that verifies it under each name.
 */
export async function proveFiles(
  paths: AgentPaths,
  run: RunHostCommand,
  expectation: Expectation,
  clock: Clock,
  files: FilesToProve,
): Promise<Proof[]> {
  const { facts, names } = expectation;
  const user = { uid: facts.qemuUid, gid: facts.qemuGid };
  await mkdir(paths.run, { recursive: true });
  const directory = await mkdtemp(join(paths.run, 'proof-'));
  try {
    await chmod(directory, 0o700);
    const image = join(directory, 'image');
    const socket = join(directory, 'nbd');
    await writeFile(image, Buffer.alloc(IMAGE_BYTES));
    for (const path of [image, directory]) await chown(path, user.uid, user.gid);
    const credentials = (endpoint: 'server' | 'client') => {
      const verify = endpoint === 'client' || files.verifyClient ? 'on' : 'off';
      return `tls-creds-x509,id=tls0,endpoint=${endpoint},dir=${files.directory},verify-peer=${verify}`;
    };
    await using server = await QemuProgram.start(
      'qemu-nbd',
      [
        '--object',
        credentials('server'),
        '--tls-creds',
        'tls0',
        '--socket',
        socket,
        '--format',
        'raw',
        '--persistent',
        '--shared',
        '0',
        '--read-only',
        image,
      ],
      user,
    );
    await listens(server, socket, files.directory);
    return await inParallel(
      [...names.dns, ...names.addresses],
      CLIENTS_AT_ONCE,
      async (name): Promise<Proof> => {
        const options = `driver=nbd,path=${socket},tls-creds=tls0,tls-hostname=${name}`;
        try {
          await run('qemu-img', ['info', '--object', credentials('client'), '--image-opts', options], {
            ...user,
            timeoutMs: CLIENT_MS,
          });
        } catch (cause) {
          throw new TrustError(
            'proof.qemu_tls',
            'failed',
            `cannot use the certificate in ${files.directory} under the name ${name}: ${describeError(cause)}${server.complaint === '' ? '' : `; the server: ${server.complaint}`}`,
            { cause },
          );
        }
        const { pin: servedPin } = expectation;
        return {
          kind: 'qemu-tls',
          target: name,
          at: clock.now(),
          by: 'agent',
          servedPin,
          detail: files.detail,
        };
      },
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function listens(server: QemuProgram, socket: string, directory: string): Promise<void> {
  const limit = AbortSignal.timeout(START_MS);
  const ended = new AbortController();
  void server.ended.then(() => ended.abort());
  await appears(socket, AbortSignal.any([limit, ended.signal])).catch(() => {});
  if (!server.over && !limit.aborted) return;
  throw new TrustError(
    'proof.qemu_tls',
    'failed',
    `cannot use the certificate in ${directory}: qemu-nbd does not start: ${server.complaint || 'no socket'}`,
    { hint: `see that the QEMU user may read ${directory} and what it links to` },
  );
}
