import { TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { Caller, Handlers } from './doors/handlers.ts';
import type { AgentContext } from './ports/agent-context.ts';
import type { Engines } from './ports/engines.ts';

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
  { apply, grants, arrivals, preflights, migrations }: Engines,
  { clock }: AgentContext,
  changing: Changing,
): Pick<Handlers, PeerOperation> {
  return {
    putGrant: changing(({ params, body, caller }) => {
      if (body.id !== params.id) throw otherGrant(params.id);
      return grants.put(body, managerOf(caller));
    }),
    deleteGrant: async ({ params, caller }) => {
      await grants.remove(params.id, managerOf(caller));
      return {};
    },
    listGrants: async ({ caller }) => ({
      grants: grants.list(caller.door === 'channel' ? caller.managerPin : undefined),
    }),
    createPreflight: ({ body, signal }) => preflights.check(body, signal),
    peerCreateMigration: async ({ body, caller }) => {
      const grant = grantOf(caller);
      await apply.beforeMigration();
      const created = await arrivals.create(grant, body);
      await grants.begin(grant.id);
      return created;
    },
    peerGetVmState: async ({ caller }) => ({
      now: clock.now(),
      ...(await migrations.vmState(grantOf(caller))),
    }),
    peerEndMigration: async ({ body, caller, signal }) => {
      const grant = grantOf(caller);
      await arrivals.end(grant, body.outcome);
      // The answer is over, read or cut off, when the signal is aborted: with its grant the peer loses its channel.
      grants.end(grant.id, signal);
      return {};
    },
    peerServeHandshake: async ({ body, caller }) => preflights.serve(grantOf(caller), body.address),
  };
}

function managerOf(caller: Caller): SpkiPin {
  if (caller.door === 'channel') return caller.managerPin;
  throw new TrustError('grant.no_manager', 'denied', 'cannot change a grant: only a manager may');
}

/** SECURITY: the peer door found it for the key that the handshake proved and the id of the path. */
function grantOf(caller: Caller): Grant {
  if (caller.door === 'peer') return caller.grant;
  throw new TrustError('grant.no_peer', 'denied', 'cannot answer: only an agent with a grant may ask');
}

function otherGrant(id: string): TrustError {
  return new TrustError('grant.other', 'invalid', `cannot take grant ${id}: its body is another one's`);
}
