import { createServer, type Server } from 'node:http';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { FastifyInstance } from 'fastify';
import type { StatusHandler } from './status-http.ts';

/** Where status alone is served, to anybody and in the clear: all that is sent is signed. */
export interface StatusListenOptions {
  readonly address: string;
  readonly port: number;
}

/** Puts CRLs and OCSP on the API's listener, without a token. */
export function mountStatusRoutes(server: FastifyInstance, handler: StatusHandler): void {
  server.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    // The handler reads bodies itself, and no more than it wants.
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
    for (const url of ['/crl/*', '/ocsp', '/ocsp/*']) {
      scope.route({
        method: url === '/crl/*' ? ['GET', 'HEAD'] : ['GET', 'HEAD', 'POST'],
        url,
        config: { operation: 'status' },
        handler: (request, reply) => {
          reply.hijack();
          handler(request.raw, reply.raw);
        },
      });
    }
  });
}

const LIMITS = {
  maxHeaderSize: 32 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 15_000,
  keepAliveTimeout: 15_000,
} as const;
const MOST_CONNECTIONS = 1024;
/** SECURITY: whoever asks for a long CRL and reads none of it would else keep his connection for ever. */
const IDLE_MS = 30_000;

/** A server of its own for CRLs and OCSP; not yet listening. */
export function createStatusServer(handler: StatusHandler, idleMs = IDLE_MS): Server {
  const server = createServer(LIMITS, handler);
  server.maxConnections = MOST_CONNECTIONS;
  server.setTimeout(idleMs);
  return server;
}

/** Listens; returns the URL. Throws `listen.failed`. */
export async function listenForStatus(
  server: Server,
  { address, port }: StatusListenOptions,
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, address, resolve);
  try {
    await promise;
  } catch (cause) {
    throw new TrustError(
      'listen.failed',
      'unavailable',
      `cannot publish status on ${address} port ${port}: ${describeError(cause)}`,
      { cause, hint: 'choose an address of this machine and a free port' },
    );
  }
  const bound = server.address();
  const actual = typeof bound === 'object' && bound !== null ? bound.port : port;
  return `http://${address.includes(':') ? `[${address}]` : address}:${actual}`;
}
