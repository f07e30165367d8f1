import type { ManagerOperation } from '@virt-trust/contract/manager/operation-parts.ts';
import type { ManagerOperations } from '@virt-trust/contract/manager/operations.ts';
import type { Role } from '@virt-trust/contract/model/access.ts';
import type { BodyOf, ParamsOf, QueryOf, ResultOf } from '@virt-trust/contract/operation.ts';
import type { IdempotencyKey } from '../jobs/job.ts';

/** Who asks. */
export interface Actor {
  readonly tokenId: string;
  /** Of the token. */
  readonly name: string;
  readonly role: Role;
  /** As the audit log and jobs name them: `token:NAME`. */
  readonly auditName: string;
}

/** One event of a stream; `id` is what Last-Event-ID resumes from. */
export interface ServerSentEvent {
  readonly id: string;
  readonly event: string;
  readonly data: unknown;
}

export interface HandlerInput<O extends ManagerOperation> {
  readonly params: ParamsOf<O>;
  readonly query: QueryOf<O>;
  readonly body: BodyOf<O>;
  /** Undefined for public operations only. */
  readonly actor: O['access'] extends 'public' ? undefined : Actor;
  /** Goes into the order of the job that the request makes. */
  readonly idempotencyKey: IdempotencyKey | undefined;
  /** Where a stream goes on from. */
  readonly lastEventId: string | undefined;
  /** Aborted when the client goes away or the manager stops. */
  readonly signal: AbortSignal;
}

type Answer<O extends ManagerOperation> = O extends { produces: 'text/event-stream' }
  ? AsyncIterable<ServerSentEvent>
  : O['status'] extends 204
    ? undefined
    : ResultOf<O>;

export type Handler<O extends ManagerOperation> = (input: HandlerInput<O>) => Promise<Answer<O>>;

/** What does each operation. Each domain gives its part: `Pick<Handlers, 'listHosts' | 'getHost'>`. */
export type Handlers = { readonly [Id in keyof ManagerOperations]: Handler<ManagerOperations[Id]> };
