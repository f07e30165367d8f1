import type { GrantedOperation } from '../model/grant.ts';
import type { Operation } from '../operation.ts';

/**
 * How an operation can be reached: by the manager over the channel, by root on the host over the Unix socket, by another
 * agent for the migration that a grant names.
 */
export type Door = 'channel' | 'local' | 'peer';

/** An operation of the agent with its doors; one without a door is reachable by nobody. */
export type AgentOperation = Operation & {
  readonly doors?: readonly Door[];
  /** At the peer door: what the grant must hold for. */
  readonly granted?: GrantedOperation;
  /** At the peer door: it belongs to a migration that has begun, and may be asked after the grant's `notAfter` too. */
  readonly goesOn?: true;
};
