import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type * as contract from '@virt-trust/contract/agent/operations.ts';
import type { AgentOperation } from '@virt-trust/contract/agent/operations.ts';
import type { BodyOf, ParamsOf, QueryOf, ResultOf } from '@virt-trust/contract/operation.ts';

/** Who calls: a manager by its pin over the channel, or root on the host over the Unix socket. */
export type Caller =
  | { readonly door: 'channel'; readonly managerPin: SpkiPin; readonly remoteAddress: string }
  | { readonly door: 'local' };

type Exports = typeof contract;

/** The operations of the agent's API by their id. */
type AgentOperations = {
  [Id in keyof Exports as Exports[Id] extends AgentOperation ? Id : never]: Exports[Id] extends AgentOperation
    ? Exports[Id]
    : never;
};

interface HandlerInput<O extends AgentOperation> {
  readonly params: ParamsOf<O>;
  readonly query: QueryOf<O>;
  readonly body: BodyOf<O>;
  readonly caller: Caller;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** What serves each operation; input was checked before, the result is checked after. */
export type Handlers = {
  readonly [Id in keyof AgentOperations]: (
    input: HandlerInput<AgentOperations[Id]>,
  ) => Promise<ResultOf<AgentOperations[Id]>>;
};
