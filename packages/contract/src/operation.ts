import type { Static, TSchema } from 'typebox';

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** One operation of an API: the single source for validation on both ends, the typed client and OpenAPI. */
export interface Operation<
  Params extends TSchema = TSchema,
  Query extends TSchema = TSchema,
  Body extends TSchema = TSchema,
  Result extends TSchema = TSchema,
> {
  readonly id: string;
  readonly summary: string;
  readonly method: Method;
  /** OpenAPI form: `/v1/things/{name}`. */
  readonly path: string;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  readonly result: Result;
  /** 200, 201, 202 or 204. */
  readonly status: number;
  /** `application/json` unless said otherwise; `text/event-stream` answers are not validated. */
  readonly produces?: 'application/json' | 'text/event-stream' | 'text/plain';
}

type Value<S> = S extends TSchema ? Static<S> : undefined;

export type ParamsOf<O extends Operation> = Value<O['params']>;
export type QueryOf<O extends Operation> = Value<O['query']>;
export type BodyOf<O extends Operation> = Value<O['body']>;
export type ResultOf<O extends Operation> = Value<O['result']>;

/** Operations by their ids. */
export type OperationsById<Operations extends readonly Operation[]> = {
  [O in Operations[number] as O['id']]: O;
};
