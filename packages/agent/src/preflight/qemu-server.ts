import { randomInt } from 'node:crypto';
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, isIP } from 'node:net';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { which } from '@virt-trust/check/host/host-command.ts';
import { readListeningPorts } from '@virt-trust/check/host/sockets.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import { QemuProgram, type QemuUser } from '../services/qemu-process.ts';

/** Something that listens for a moment. */
export interface ShortServer extends AsyncDisposable {
  readonly port: number;
}

/** Where QEMU's server is to listen. */
export interface ServerQuestion {
  readonly address: string;
  readonly ports: { readonly min: number; readonly max: number };
}

const IMAGE_BYTES = 65_536;
const TRIES = 4;
const CONNECT_MS = 2000;

/**
 * A `qemu-nbd` that serves nothing worth having, with QEMU's own TLS code and this host's very files for migrations, as
 * the QEMU user; whoever comes must show a certificate, as a source must. Throws `preflight.cannot_serve`.
 */
export async function serveWithQemu(
  question: ServerQuestion & { readonly directory: string; readonly user: QemuUser },
  { paths, run }: Pick<AgentContext, 'paths' | 'run'>,
): Promise<ShortServer> {
  const { address, directory, user } = question;
  await mkdir(paths.run, { recursive: true });
  const own = await mkdtemp(join(paths.run, 'preflight-'));
  const remove = () => rm(own, { recursive: true, force: true });
  try {
    const image = join(own, 'image');
    await writeFile(image, Buffer.alloc(IMAGE_BYTES), { mode: 0o600 });
    await chown(image, user.uid, user.gid);
    // SECURITY: the directory stays root's, so that nobody but root puts anything there that root then removes.
    await chmod(own, 0o711);
    for (let attempt = 1; ; attempt++) {
      const port = await freePortOf(question, run);
      const server = await start({ address, port, directory, image, user });
      try {
        await server.untilListening(
          () => canConnect(address, port),
          () => true,
        );
        return {
          port,
          async [Symbol.asyncDispose]() {
            await server[Symbol.asyncDispose]();
            await remove();
          },
        };
      } catch (cause) {
        const complaint = server.complaint;
        await server[Symbol.asyncDispose]();
        // Somebody else took the port in between.
        if (attempt < TRIES && /in use/i.test(complaint)) continue;
        throw cannotServe(directory, complaint, cause);
      }
    }
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Listens where a stream would, and lets whoever comes go at once: for modes in which QEMU shows no certificate. */
export async function serveBare(
  question: ServerQuestion,
  { run }: Pick<AgentContext, 'run'>,
): Promise<ShortServer> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end();
  });
  let port = 0;
  const tried = new Set<number>();
  for (;;) {
    port = await freePortOf(question, run, tried);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen(port, question.address, () => resolve());
    try {
      await promise;
      break;
    } catch (error) {
      // Somebody else took the port in between.
      if (tried.add(port).size === TRIES || (error as NodeJS.ErrnoException).code !== 'EADDRINUSE')
        throw error;
    } finally {
      server.off('error', reject);
    }
  }
  return {
    port,
    async [Symbol.asyncDispose]() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    },
  };
}

/** A port of the range that nobody listens on, one of the upper half: libvirt begins below. Throws `preflight.no_port`. */
async function freePortOf(
  { ports }: ServerQuestion,
  run: AgentContext['run'],
  tried: ReadonlySet<number> = new Set(),
): Promise<number> {
  const taken = await readListeningPorts(run);
  const { min, max } = ports;
  const free = Array.from({ length: max - min + 1 }, (_, index) => max - index).filter(
    (port) => !taken.has(port) && !tried.has(port),
  );
  const upper = free.slice(0, Math.max(1, free.length >> 1));
  const port = upper[upper.length > 1 ? randomInt(upper.length) : 0];
  if (port !== undefined) return port;
  throw new TrustError(
    'preflight.no_port',
    'unavailable',
    `cannot listen for a moment: no port of ${min}-${max} is free`,
    { hint: 'wait for the end of other migrations, or widen migration_port_max in /etc/libvirt/qemu.conf' },
  );
}

async function start({
  address,
  port,
  directory,
  image,
  user,
}: {
  readonly address: string;
  readonly port: number;
  readonly directory: string;
  readonly image: string;
  readonly user: QemuUser;
}): Promise<QemuProgram> {
  const args = [
    '--object',
    `tls-creds-x509,id=tls0,endpoint=server,dir=${directory},verify-peer=on`,
    '--tls-creds',
    'tls0',
    '--bind',
    address,
    '--port',
    String(port),
    '--format',
    'raw',
    '--persistent',
    '--shared',
    '4',
    '--read-only',
    image,
  ];
  // So that it goes with the agent, however that ends.
  const bound = await which('setpriv');
  const program = await which('qemu-nbd');
  return bound === undefined || program === undefined
    ? await QemuProgram.start('qemu-nbd', args, user)
    : await QemuProgram.start('setpriv', ['--pdeathsig', 'KILL', program, ...args], user);
}

async function canConnect(address: string, port: number): Promise<void> {
  const host = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({ host, port, family: isIP(host) });
  const timer = setTimeout(() => reject(new Error('no answer')), CONNECT_MS);
  socket.once('connect', () => resolve());
  socket.once('error', reject);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

function cannotServe(directory: string, complaint: string, cause: unknown): TrustError {
  return new TrustError(
    'preflight.cannot_serve',
    'failed',
    `cannot serve a handshake with the files in ${directory}: QEMU does not start: ${complaint.slice(-2000) || 'it does not listen'}`,
    { hint: `see that the QEMU user may read ${directory} and what it links to`, cause },
  );
}
