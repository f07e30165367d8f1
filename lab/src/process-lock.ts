import { connect, createServer, type Server, type Socket } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';

/** A lock between processes that the kernel lets go of when its holder dies, however it dies. */
export interface ProcessLock extends AsyncDisposable {
  release(): Promise<void>;
}

/** Takes the lock of this name, or returns undefined if another process holds it. */
export async function tryLock(name: string): Promise<ProcessLock | undefined> {
  const waiting = new Set<Socket>();
  const server = createServer((socket) => {
    waiting.add(socket);
    socket.on('error', () => {}).on('close', () => waiting.delete(socket));
    socket.unref();
  });
  if (!(await listen(server, address(name)))) return undefined;
  server.unref();
  const release = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of waiting) socket.destroy();
    await closed;
  };
  return { release, [Symbol.asyncDispose]: release };
}

/** Takes the lock of this name; `onWait` is called once if another process holds it now; throws when aborted. */
export async function lock(
  name: string,
  onWait: () => void = () => {},
  signal?: AbortSignal,
): Promise<ProcessLock> {
  let told = false;
  for (;;) {
    signal?.throwIfAborted();
    const taken = await tryLock(name);
    if (taken !== undefined) return taken;
    if (!told) onWait();
    told = true;
    await holderGone(name, signal);
  }
}

// The abstract namespace has no file that could be left behind by a holder that was killed.
function address(name: string): string {
  return `\0virt-trust-lab/${name}`;
}

function listen(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else
        reject(
          new TrustError('lab.lock', 'failed', `cannot take lock ${path.slice(1)}: ${error.message}`, {
            cause: error,
          }),
        );
    });
    server.listen(path, () => resolve(true));
  });
}

/** Ends when the holder closes the connection (by releasing the lock or by dying) or when aborted. */
function holderGone(name: string, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(address(name));
    const abort = () => socket.destroy();
    signal?.addEventListener('abort', abort);
    socket
      .on('error', () => {})
      .on('close', () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      });
    socket.resume();
  });
}
