import { hostname } from 'node:os';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import { VERSION } from '@virt-trust/base/version.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Consoles } from './consoles/consoles.ts';
import type { ChannelDoor } from './doors/channel-door.ts';
import type { Handlers } from './doors/handlers.ts';
import { peerHandlers } from './peer-handlers.ts';
import type { AgentContext } from './ports/agent-context.ts';
import type { Engines } from './ports/engines.ts';
import type { EventLog } from './state/events.ts';
import type { IdentityStore } from './state/identity.ts';
import type { ManagerStore } from './state/managers.ts';

export interface OperationParts {
  readonly context: AgentContext;
  readonly identity: IdentityStore;
  readonly managers: ManagerStore;
  readonly events: EventLog;
  readonly engines: Engines;
  readonly consoles: Consoles;
  readonly startedAt: Instant;
  /** The channel's door, once it is open. */
  readonly channel: () => ChannelDoor | undefined;
  /** Called with each desired state that was taken, and from where it came. */
  readonly onDesired: (desired: DesiredState, managerAddress: string) => Promise<void>;
  /** Called when the host has its own back and the caller has read so. */
  readonly onRemoved: () => void;
}

/** What serves the agent's operations. */
export function agentHandlers(parts: OperationParts): Handlers {
  const { context, identity, managers, events, consoles } = parts;
  const { apply, crls, migrations, grants } = parts.engines;
  const changing = <Input, Result>(work: (input: Input) => Promise<Result>) => {
    return async (input: Input) => {
      if (context.mode === 'observe') throw observeOnly();
      return await work(input);
    };
  };
  return {
    getStatus: async () => ({
      version: VERSION,
      mode: context.mode,
      hostName: hostname(),
      pin: identity.current.pin,
      managers: [...managers.pins],
      listen: parts.channel()?.listen ?? '',
      now: context.clock.now(),
      startedAt: parts.startedAt,
      lastEvent: events.last,
      channels: (parts.channel()?.channels() ?? []).slice(0, 64),
    }),
    getInventory: () => context.inventory(),
    listEvents: async ({ query, signal }) => {
      const { after = 0, limit = 1000, wait = 0 } = query;
      if (wait > 0 && events.last <= after)
        await events.waitFor(after, AbortSignal.any([signal, AbortSignal.timeout(wait * SECOND)]));
      return await events.list(after, limit);
    },
    getObservedState: () => apply.observedState(),
    putDesiredState: changing(async ({ body, caller }) => {
      const observed = await apply.putDesiredState(body);
      if (caller.door === 'channel') await parts.onDesired(body, caller.remoteAddress);
      return observed;
    }),
    getDesiredState: () => apply.desiredState(),
    listCertificateRequests: async () => ({ requests: await apply.certificateRequests() }),
    putCertificates: changing(({ body }) => apply.putCertificates(body.certificates)),
    postProofs: changing(({ body }) => apply.postProofs(body.proofs)),
    putCrls: changing(({ body }) => crls.put(body.crls, body.revoked)),
    getCrls: async () => ({ crls: await crls.held() }),
    getIdentity: async () => identity.describe(),
    announceIdentity: () => identity.announce(),
    activateIdentity: async ({ body }) => {
      const before = identity.current.pin;
      const described = await identity.activate(body.pin);
      // Also where nothing changed: an earlier request may have been cut off just here.
      parts.channel()?.refresh();
      await grants.refresh();
      if (described.current !== before)
        await context.record('identity.activated', described.current, `${before} is the former key`);
      return described;
    },
    retireIdentity: ({ body }) => identity.retire(body.pin),
    putManagers: async ({ body, caller }) => {
      if (caller.door !== 'channel')
        throw new TrustError('managers.no_asker', 'denied', 'cannot set the managers: only a manager may');
      const before = managers.managers;
      const now = await managers.replace(body, caller.managerPin, identity.pins);
      parts.channel()?.refresh();
      await grants.refresh();
      if (now !== before)
        await context.record('managers.replaced', `${now.epoch}.${now.number}`, now.pins.join(' '));
      return now;
    },
    createMigration: changing(async ({ body }) => {
      await apply.beforeMigration();
      return await migrations.create(body);
    }),
    startMigration: changing(async ({ params, body }) => {
      const status = await migrations.start(params.id, body.certificate);
      await grants.begin(params.id);
      return status;
    }),
    getMigration: ({ params, query, signal }) =>
      migrations.get(params.id, (query.wait ?? 0) * SECOND, signal),
    cancelMigration: changing(({ params }) => migrations.cancel(params.id)),
    listVms: ({ query }) => migrations.list(query.address),
    getVmDisplays: ({ params }) => consoles.displays(params.vm),
    createConsolePassword: changing(({ params, body }) =>
      consoles.createPassword(params.vm, params.type, body.seconds),
    ),
    ...peerHandlers(parts.engines, context, changing),
    postRemoval: async ({ signal }) => {
      const outcome = await apply.remove();
      // The answer is over, read or cut off: either way the host has its own back.
      signal.addEventListener('abort', () => parts.onRemoved(), { once: true });
      if (signal.aborted) parts.onRemoved();
      return outcome;
    },
  };
}

function observeOnly(): TrustError {
  return new TrustError(
    'agent.observe_only',
    'denied',
    'cannot change this host: the agent was deployed to look and report only',
    { hint: 'Deploy it to manage: virt-trust host add, without --observe.' },
  );
}
