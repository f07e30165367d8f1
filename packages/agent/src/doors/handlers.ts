import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { AgentOperation } from '@virt-trust/contract/agent/agent-operation.ts';
import type { AgentOperations } from '@virt-trust/contract/agent/operations.ts';
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
