import { chmod, rm } from 'node:fs/promises';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import Fastify from 'fastify';
import { MAX_BODY_BYTES, serveDoor } from './door.ts';
import type { Handlers } from './handlers.ts';

/** The door while it is open. */
export interface LocalDoor {
  close(): Promise<void>;
}

/**
 * Opens the door of root on the host: HTTP/1.1 over a Unix socket that only its owner may connect to.
 * The caller has set a umask that closes it to others from its first moment. Throws `agent.cannot_listen`.
 */
export async function openLocalDoor(options: {
  readonly path: string;
  readonly handlers: Handlers;
  readonly log: Log;
}): Promise<LocalDoor> {
  const { path, handlers, log } = options;
  const app = Fastify({ bodyLimit: MAX_BODY_BYTES, requestTimeout: 30_000, forceCloseConnections: true });
  app.server.maxConnections = 64;
  // SECURITY: connecting to a Unix socket takes write permission on it; the mode below leaves that to root.
  serveDoor(app, { door: 'local', handlers, log, callerOf: () => ({ door: 'local' }) });
  try {
    await rm(path, { force: true });
    await app.listen({ path });
    await chmod(path, 0o600);
  } catch (cause) {
    await app.close();
    throw new TrustError('agent.cannot_listen', 'failed', `cannot listen on ${path}`, {
      context: { path },
      cause,
    });
  }
  return { close: () => app.close() };
}
