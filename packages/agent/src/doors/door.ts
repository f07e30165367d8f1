import { hostname } from 'node:os';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { AgentOperation, Door } from '@virt-trust/contract/agent/agent-operation.ts';
import { AGENT_OPERATIONS } from '@virt-trust/contract/agent/operations.ts';
import { type Problem, problemOf } from '@virt-trust/contract/problem.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { TSchema } from 'typebox';
import { systemRefusal } from '../state/system-error.ts';
import type { Caller, Handlers } from './handlers.ts';

/** A desired state holds up to sixteen bundles of 64 KiB. */
export const MAX_BODY_BYTES = 2 * 1024 * 1024;

export interface DoorOptions {
  readonly door: Door;
  readonly handlers: Handlers;
  readonly log: Log;
  /** Who sent a request, asked before its body is read and again before it is obeyed; undefined where that can't be told, which refuses it. */
  readonly callerOf: (request: FastifyRequest, operation: AgentOperation) => Caller | undefined;
}

/** The operations that can be reached through a door: those that name it, and no others. */
export function operationsOf(door: Door): AgentOperation[] {
  return AGENT_OPERATIONS.filter(({ doors }) => doors?.includes(door) ?? false);
}

/** Puts a door's operations on its server: checked input, checked results, RFC 9457 problem documents. */
export function serveDoor(app: FastifyInstance, options: DoorOptions): void {
  const { log, door } = options;
  for (const operation of operationsOf(door)) {
    app.route({
      method: operation.method,
      url: operation.path.replace(/\{(\w+)\}/g, ':$1'),
      // SECURITY: asked twice: nothing is read of one who may not ask, and nothing done for one who may not any more.
      onRequest: async (request) => {
        callerOrRefusal(operation, request, options);
      },
      handler: (request, reply) => answer(operation, request, reply, options),
    });
  }
  app.setNotFoundHandler((request, reply) =>
    sendProblem(reply, {
      ...problemOf(
        new TrustError(
          'api.no_such_operation',
          'not-found',
          `cannot find ${request.method} ${request.url.slice(0, 200)}: this door has no such operation`,
        ),
      ),
    }),
  );
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const problem = problemOfError(error);
    if (problem.status >= 500) {
      log.error({ door, url: request.url.slice(0, 200), error: describeError(error) }, 'request failed');
    }
    return sendProblem(reply, problem);
  });
}

async function answer(
  operation: AgentOperation,
  request: FastifyRequest,
  reply: FastifyReply,
  options: DoorOptions,
): Promise<FastifyReply> {
  const caller = callerOrRefusal(operation, request, options);
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  const input = {
    params: checked(operation.params, request.params, 'path'),
    query: checked(operation.query, coerceQuery(operation.query, request.query), 'query'),
    body: checked(operation.body, request.body, 'body'),
    caller,
    signal: gone.signal,
  };
  const handler = options.handlers[operation.id as keyof Handlers] as (
    given: typeof input,
  ) => Promise<unknown>;
  const result = await handler(input);
  return reply.code(operation.status).send(checkedResult(operation, result));
}

function callerOrRefusal(
  operation: AgentOperation,
  request: FastifyRequest,
  { callerOf }: DoorOptions,
): Caller {
  const caller = callerOf(request, operation);
  if (caller !== undefined) return caller;
  throw new TrustError('api.caller_unknown', 'unauthenticated', 'cannot tell who asks: the session is over');
}

function checked(schema: TSchema | undefined, value: unknown, what: string): unknown {
  return schema === undefined ? undefined : validatorOf(schema)(value, `the request's ${what}`);
}

function checkedResult(operation: AgentOperation, result: unknown): unknown {
  try {
    return validatorOf(operation.result)(result, `answer of ${operation.id}`);
  } catch (cause) {
    throw new TrustError(
      'api.bad_answer',
      'internal',
      `cannot answer ${operation.id}: ${describeError(cause)}`,
      { cause },
    );
  }
}

/** Numbers of a query come as digits; anything else stays text, for the validator to refuse. */
function coerceQuery(schema: TSchema | undefined, query: unknown): unknown {
  const properties = (schema as { properties?: Record<string, { type?: string }> } | undefined)?.properties;
  const given = Object.entries((query ?? {}) as Record<string, unknown>);
  return Object.fromEntries(
    given.map(([name, value]) => {
      const isNumber = Object.hasOwn(properties ?? {}, name) && properties?.[name]?.type === 'integer';
      return [
        name,
        isNumber && typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value,
      ];
    }),
  );
}

function problemOfError(error: FastifyError | TrustError | Error): Problem {
  if (error instanceof TrustError) return problemOf(error);
  const status = 'statusCode' in error && typeof error.statusCode === 'number' ? error.statusCode : 500;
  if (status >= 400 && status < 500) {
    const [code, reason] = CLIENT_ERRORS[status] ?? ['api.bad_request', 'it is not understood'];
    const problem = problemOf(new TrustError(code, 'invalid', `cannot take the request: ${reason}`));
    return { ...problem, status };
  }
  const refusal = systemRefusal(error);
  if (refusal !== undefined) {
    const message = `cannot do what was asked on host ${hostname()}: ${describeError(error)}`;
    return problemOf(new TrustError(refusal.code, 'failed', message, { hint: refusal.hint }));
  }
  // Nothing of an unexpected error leaves the host; the log has it.
  return problemOf(
    new TrustError('api.internal', 'internal', 'cannot answer: a fault in the agent', {
      hint: 'See its log on the host: journalctl -u virt-trust-agent.',
    }),
  );
}

const CLIENT_ERRORS: Readonly<Record<number, readonly [string, string]>> = {
  400: ['api.not_json', 'its body is not JSON'],
  413: ['api.body_too_large', `its body is larger than ${MAX_BODY_BYTES} bytes`],
  415: ['api.not_json', 'its body is not application/json'],
};

function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply.code(problem.status).type('application/problem+json').send(JSON.stringify(problem));
}
