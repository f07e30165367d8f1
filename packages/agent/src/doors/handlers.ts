import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { AgentOperation } from '@virt-trust/contract/agent/agent-operation.ts';
import type * as grantOperations from '@virt-trust/contract/agent/grant-operations.ts';
import type * as operations from '@virt-trust/contract/agent/operations.ts';
import type * as peerOperations from '@virt-trust/contract/agent/peer-operations.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { BodyOf, ParamsOf, QueryOf, ResultOf } from '@virt-trust/contract/operation.ts';

/**
 * Who calls: a manager by its pin over the channel, root on the host over the Unix socket, or an agent by its pin with
 * the grant that it calls under, which was found to admit it.
 */
export type Caller =
  | { readonly door: 'channel'; readonly managerPin: SpkiPin; readonly remoteAddress: string }
  | { readonly door: 'local' }
  | {
      readonly door: 'peer';
      readonly peerPin: SpkiPin;
      readonly remoteAddress: string;
      readonly grant: Grant;
    };

type Exports = typeof operations & typeof grantOperations & typeof peerOperations;

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
