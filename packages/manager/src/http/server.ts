import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { describeError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import type { Counter } from '../metrics/metrics.ts';
import type { Handlers } from './handlers.ts';
import { checkHost, isLoopback, type ListenOptions } from './listen.ts';
import { problemOfThrown } from './problem-response.ts';
import { mountRoutes, type RouteParts } from './routes.ts';
import type { StatusHandler } from './status-http.ts';
import { mountStatusRoutes } from './status-routes.ts';

export interface ServerParts extends RouteParts {
  readonly listen: ListenOptions;
  readonly log: Log;
  readonly requests: Counter;
  /** CRLs and OCSP; undefined where there are none. */
  readonly status: StatusHandler | undefined;
}

const LIMITS = {
  bodyLimit: 1024 * 1024,
  /** From the first byte of a request to its last. */
  requestTimeout: 30_000,
  /** Of a connection on which nothing moves; streams have their heartbeat. */
  connectionTimeout: 120_000,
  keepAliveTimeout: 65_000,
  exposeHeadRoutes: false,
  routerOptions: { maxParamLength: 300 },
} as const;
const HEADERS = { maxHeaderSize: 16 * 1024, headersTimeout: 10_000 } as const;
const MOST_CONNECTIONS = 1024;

/** The manager's HTTP API: every answer that is not what was asked for is a problem document (RFC 9457). */
export function createServer(handlers: Partial<Handlers>, parts: ServerParts): FastifyInstance {
  const { tls } = parts.listen;
  const options = {
    ...LIMITS,
    genReqId: () => randomUUID(),
    clientErrorHandler,
    frameworkErrors: (error: Error, request: FastifyRequest, reply: FastifyReply) => {
      sendProblem(parts.log, error, request, reply);
    },
  };
  const server =
    tls === undefined
      ? fastify({ ...options, http: HEADERS })
      : fastify({
          ...options,
          https: { ...HEADERS, cert: tls.certificate, key: tls.key, minVersion: 'TLSv1.3' },
        });
  const instance = server as unknown as FastifyInstance;
  instance.server.maxConnections = MOST_CONNECTIONS;
  instance.removeContentTypeParser('text/plain');
  addHooks(instance, parts);
  mountRoutes(instance, handlers, parts);
  if (parts.status !== undefined) mountStatusRoutes(instance, parts.status);
  return instance;
}

function addHooks(server: FastifyInstance, parts: ServerParts): void {
  const guarded = isLoopback(parts.listen.address) && parts.listen.tls === undefined;
  server.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    reply.header('x-content-type-options', 'nosniff');
    if (guarded) checkHost(request.headers.host);
  });
  server.addHook('onResponse', async (request, reply) => {
    const operation = operationOf(request);
    parts.requests.add({ operation, status: String(reply.statusCode) });
    parts.log.debug(
      {
        request: request.id,
        operation,
        status: reply.statusCode,
        milliseconds: Math.round(reply.elapsedTime),
      },
      'answered',
    );
  });
  server.setErrorHandler((error, request, reply) => sendProblem(parts.log, error, request, reply));
  server.setNotFoundHandler((request, reply) => {
    const problem = problemOfThrown({ statusCode: 404, message: 'there is nothing at this path' });
    const unknown = { ...problem, code: 'request.unknown_path', title: 'request.unknown_path' };
    reply
      .code(404)
      .type('application/problem+json')
      .send(JSON.stringify({ ...unknown, type: 'urn:virt-trust:error:request.unknown_path' }));
    parts.log.debug({ request: request.id, method: request.method }, 'unknown path');
  });
}

function sendProblem(log: Log, error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const problem = problemOfThrown(error);
  if (problem.status >= 500) {
    const stack = error instanceof Error ? error.stack : undefined;
    const fields = { request: request.id, operation: operationOf(request), code: problem.code, stack };
    log.error(fields, describeError(error));
  }
  // RFC 6750 §3.
  if (problem.status === 401) reply.header('www-authenticate', 'Bearer realm="virt-trust"');
  reply.code(problem.status).type('application/problem+json').send(JSON.stringify(problem));
}

function operationOf(request: FastifyRequest): string {
  const { operation } = request.routeOptions.config as { operation?: string };
  return operation ?? 'none';
}

/** Answers what is not even HTTP: Node has no request object for it. */
function clientErrorHandler(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status =
    error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  const reason = STATUS_CODES[status] ?? 'Bad Request';
  const body = JSON.stringify(problemOfThrown({ statusCode: status, message: reason.toLowerCase() }));
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
