import { TrustError } from '@virt-trust/base/error.ts';
import type { BodyOf, Operation, ParamsOf, QueryOf, ResultOf } from './operation.ts';
import { errorOfProblem, Problem } from './problem.ts';
import { validatorOf } from './validate.ts';

/** What a transport is asked to send; `path` carries the query. */
export interface TransportRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
  readonly signal: AbortSignal | undefined;
}

export interface TransportResponse {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** Sends one request and returns the whole, bounded answer. */
export type Transport = (request: TransportRequest) => Promise<TransportResponse>;

export type CallInput<O extends Operation> = (ParamsOf<O> extends undefined
  ? { params?: undefined }
  : { params: ParamsOf<O> }) &
  (QueryOf<O> extends undefined ? { query?: undefined } : { query?: QueryOf<O> }) &
  (BodyOf<O> extends undefined ? { body?: undefined } : { body: BodyOf<O> });

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly headers?: Record<string, string>;
}

/** Calls operations over a transport; requests and answers are checked against the contract on this side too. */
export class ApiClient {
  readonly #transport: Transport;
  readonly #peer: string;

  constructor(transport: Transport, peer: string) {
    this.#transport = transport;
    this.#peer = peer;
  }

  async call<O extends Operation>(
    operation: O,
    input: CallInput<O>,
    options: CallOptions = {},
  ): Promise<ResultOf<O>> {
    const body =
      operation.body === undefined
        ? undefined
        : JSON.stringify(validatorOf(operation.body)(input.body, 'request'));
    const response = await this.#transport({
      method: operation.method,
      path: requestPath(
        operation,
        checkedParams(operation, input.params),
        checkedQuery(operation, input.query),
      ),
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...options.headers },
      body,
      signal: options.signal,
    });
    return this.#read(operation, response);
  }

  #read<O extends Operation>(operation: O, response: TransportResponse): ResultOf<O> {
    if (response.status >= 400) throw this.#problem(response);
    if (operation.status === 204) return undefined as ResultOf<O>;
    if (operation.produces === 'text/plain') return response.body as ResultOf<O>;
    const value = this.#json(response);
    return validatorOf(operation.result)(value, `answer of ${this.#peer} to ${operation.id}`) as ResultOf<O>;
  }

  #problem(response: TransportResponse): TrustError {
    try {
      return errorOfProblem(validatorOf(Problem)(this.#json(response), 'problem document'));
    } catch {
      return new TrustError(
        'api.no_problem_document',
        'failed',
        `cannot use the answer of ${this.#peer}: status ${response.status}`,
        {
          context: { status: response.status },
        },
      );
    }
  }

  #json(response: TransportResponse): unknown {
    try {
      return JSON.parse(response.body);
    } catch (cause) {
      throw new TrustError('api.not_json', 'failed', `cannot read the answer of ${this.#peer}: not JSON`, {
        cause,
      });
    }
  }
}

function checkedParams(operation: Operation, params: unknown): Record<string, string> {
  if (operation.params === undefined) return {};
  return validatorOf(operation.params)(params, 'request') as Record<string, string>;
}

function checkedQuery(operation: Operation, query: unknown = {}): Record<string, unknown> {
  if (operation.query === undefined) return {};
  return validatorOf(operation.query)(query, 'request') as Record<string, unknown>;
}

/** The request path of an operation with its parameters and query filled in, each part percent-encoded. */
export function requestPath(
  operation: Operation,
  params: Record<string, string> | undefined,
  query: Record<string, unknown> | undefined,
): string {
  const path = operation.path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String(params?.[name] ?? '')),
  );
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {}))
    if (value !== undefined) search.set(name, String(value));
  return search.size === 0 ? path : `${path}?${search}`;
}
