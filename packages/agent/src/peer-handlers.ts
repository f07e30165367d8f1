import { TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Grant, GrantedOperation } from '@virt-trust/contract/model/grant.ts';
import type { Caller, Handlers } from './doors/handlers.ts';
import type { AgentContext, Engines } from './ports.ts';

type PeerOperation =
  | 'putGrant'
  | 'deleteGrant'
  | 'listGrants'
  | 'createPreflight'
  | 'peerCreateMigration'
  | 'peerGetVmState'
  | 'peerEndMigration'
  | 'peerServeHandshake';

/** Refuses work on a host that is only looked at. */
type Changing = <Input, Result>(work: (input: Input) => Promise<Result>) => (input: Input) => Promise<Result>;

/** What serves managers who give grants, and agents who have one. */
export function peerHandlers(
  { grants, arrivals, preflights, migrations }: Engines,
  { clock }: AgentContext,
  changing: Changing,
): Pick<Handlers, PeerOperation> {
  /** SECURITY: by the pin that the handshake proved and the grant of the path, at each request anew. */
  const admitted = (id: string, caller: Caller, operation: GrantedOperation): Grant => {
    if (caller.door !== 'peer') throw noPeer();
    return grants.admit(id, caller.peerPin, operation);
  };
  return {
    putGrant: changing(({ params, body, caller }) => {
      if (body.id !== params.id) throw otherGrant(params.id);
      return grants.put(body, managerOf(caller));
    }),
    deleteGrant: async ({ params, caller }) => {
      await grants.remove(params.id, managerOf(caller));
      return {};
    },
    listGrants: async () => ({ grants: grants.list() }),
    createPreflight: ({ body, signal }) => preflights.check(body, signal),
    peerCreateMigration: async ({ params, body, caller }) =>
      arrivals.create(admitted(params.id, caller, 'create'), body),
    peerGetVmState: async ({ params, caller }) => {
      const grant = admitted(params.id, caller, 'status');
      return { now: clock.now(), ...(await migrations.vmState(grant)) };
    },
    peerEndMigration: async ({ params, body, caller }) => {
      await arrivals.end(admitted(params.id, caller, 'create'), body.outcome);
      return {};
    },
    peerServeHandshake: async ({ params, body, caller }) =>
      preflights.serve(admitted(params.id, caller, 'preflight'), body.address),
  };
}

function managerOf(caller: Caller): SpkiPin {
  if (caller.door === 'channel') return caller.managerPin;
  throw new TrustError('grant.no_manager', 'denied', 'cannot change a grant: only a manager may');
}

function noPeer(): TrustError {
  return new TrustError('grant.no_peer', 'denied', 'cannot answer: only an agent with a grant may ask');
}

function otherGrant(id: string): TrustError {
  return new TrustError('grant.other', 'invalid', `cannot take grant ${id}: its body is another one's`);
}
