import { TrustError } from '@virt-trust/base/error.ts';
import type { ManagerOperation } from '@virt-trust/contract/manager/operation-parts.ts';
import { MANAGER_OPERATIONS } from '@virt-trust/contract/manager/operations.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { JobRunner } from '../jobs/job-runner.ts';
import { type AuthenticationParts, authenticate } from './authenticate.ts';
import { eventStream } from './event-stream.ts';
import type { Actor, Handler, HandlerInput, Handlers, ServerSentEvent } from './handlers.ts';
import { idempotencyKeyOf, takesIdempotencyKey } from './idempotency.ts';
import { readQuery } from './query.ts';

export interface RouteParts {
  readonly authentication: AuthenticationParts;
  readonly jobs: JobRunner;
  /** Ends streams. */
  readonly signal: AbortSignal;
  readonly heartbeatMilliseconds: number;
}

type AnyHandler = Handler<ManagerOperation>;
type AnyInput = HandlerInput<ManagerOperation>;

/** Bodies are small but for a certificate request with its chain of names. */
const BODY_LIMITS: Readonly<Record<string, number>> = { issueCertificate: 128 * 1024 };

/** One route for each operation of the contract that has a handler: authenticated, then validated in and out. */
export function mountRoutes(server: FastifyInstance, handlers: Partial<Handlers>, parts: RouteParts): void {
  for (const operation of MANAGER_OPERATIONS) {
    const handler = (handlers as Readonly<Record<string, AnyHandler | undefined>>)[operation.id];
    if (handler !== undefined) mount(server, operation, handler, parts);
  }
}

function mount(
  server: FastifyInstance,
  operation: ManagerOperation,
  handler: AnyHandler,
  parts: RouteParts,
): void {
  const actors = new WeakMap<FastifyRequest, Actor>();
  const bodyLimit = BODY_LIMITS[operation.id];
  server.route({
    method: operation.method,
    url: operation.path.replace(/\{(\w+)\}/g, ':$1'),
    ...(bodyLimit === undefined ? {} : { bodyLimit }),
    config: { operation: operation.id },
    // SECURITY: before the body is read.
    onRequest: async (request) => {
      if (operation.access === 'public') return;
      const { authorization } = request.headers;
      const from = { authorization, address: request.socket.remoteAddress ?? '', operation: operation.id };
      actors.set(request, await authenticate(parts.authentication, operation.access, from));
    },
    handler: async (request, reply) => {
      const input = readInput(operation, request, reply, actors.get(request), parts.signal);
      const key = input.idempotencyKey;
      const before = key === undefined ? undefined : await parts.jobs.findByKey(key);
      return answer(operation, reply, before ?? (await handler(input)), input, parts);
    },
  });
}

function readInput(
  operation: ManagerOperation,
  request: FastifyRequest,
  reply: FastifyReply,
  actor: Actor | undefined,
  stopping: AbortSignal,
): AnyInput {
  const { params: paramsSchema, query: querySchema, body: bodySchema } = operation;
  const params = paramsSchema && validatorOf(paramsSchema)(request.params, 'the path');
  const query = querySchema && validatorOf(querySchema)(readQuery(querySchema, request.query), 'the query');
  const body =
    bodySchema && validatorOf(bodySchema)(request.body === undefined ? {} : request.body, 'the body');
  let signal: AbortSignal | undefined;
  const lastEventId = request.headers['last-event-id'];
  const idempotencyKey =
    actor !== undefined && takesIdempotencyKey(operation)
      ? idempotencyKeyOf(request.headers['idempotency-key'], actor, operation, { params, query, body })
      : undefined;
  return {
    params,
    query,
    body,
    // The type of each handler says whether there is an actor; authentication above sees to it.
    actor: actor as Actor,
    idempotencyKey,
    lastEventId: typeof lastEventId === 'string' ? lastEventId : undefined,
    // Made when it is asked for: most operations are over before anyone could go away.
    get signal() {
      signal ??= AbortSignal.any([goneSignal(reply), stopping]);
      return signal;
    },
  };
}

function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  if (reply.raw.closed) gone.abort();
  else reply.raw.once('close', () => gone.abort());
  return gone.signal;
}

function answer(
  operation: ManagerOperation,
  reply: FastifyReply,
  result: unknown,
  input: AnyInput,
  parts: RouteParts,
): FastifyReply {
  reply.code(operation.status);
  switch (operation.produces) {
    case 'text/event-stream':
      // The connection ends with the stream: kept open, it would hold up the manager's stop.
      reply.type('text/event-stream').header('connection', 'close');
      return reply.send(
        eventStream(result as AsyncIterable<ServerSentEvent>, parts.heartbeatMilliseconds, input.signal),
      );
    case 'text/plain':
      return reply.type('text/plain; charset=utf-8').send(checkAnswer(operation, result));
    default:
      if (operation.status === 204) return reply.send();
      return reply
        .type('application/json; charset=utf-8')
        .send(JSON.stringify(checkAnswer(operation, result)));
  }
}

/** An answer that is not what the contract says is a fault of ours, and never leaves. */
function checkAnswer(operation: ManagerOperation, result: unknown): unknown {
  try {
    return validatorOf(operation.result)(result, `the answer to ${operation.id}`);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new TrustError('api.answer_invalid', 'internal', message, { cause });
  }
}
