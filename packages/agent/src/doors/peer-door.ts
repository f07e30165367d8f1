import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { AddressRate } from '@virt-trust/channel/address-rate.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { AgentOperation } from '@virt-trust/contract/agent/agent-operation.ts';
import type { FastifyRequest } from 'fastify';
import type { Grants, PeerDoorControl, PeerGuests } from '../ports/grants.ts';
import type { Caller, Handlers } from './handlers.ts';
import { openPinnedDoor, type PinnedDoor, type ProvenPeer } from './pinned-door.ts';

export interface PeerDoorOptions {
  readonly identity: () => ChannelIdentity<'agent'>;
  readonly grants: Pick<Grants, 'admit'>;
  readonly port: number;
  readonly handlers: Handlers;
  readonly log: Log;
  readonly clock: Clock;
  /** How long the whole of a request may take to arrive. */
  readonly requestMs?: number;
}

/**
 * SECURITY: what a host whose key somebody stole may cost another. Four sessions of four requests at once, each with a
 * body of 2 MiB, are the most that it can have the agent hold; of a host with several grants, one more for each.
 */
const LIMITS = {
  maxSessionMemory: 4,
  maxSessionInvalidFrames: 10,
  maxSessionRejectedStreams: 20,
  settings: { maxConcurrentStreams: 4, maxHeaderListSize: 8192 },
} as const;
/** Each migration has a channel, for as long as it goes on; besides, preflights do, and what takes a broken one's place. */
const CHANNELS = { besides: 3, most: 16 } as const;
/** The addresses are the peers' own, named one by one: each counts for itself. */
const CONNECTIONS = { perMinute: 120, sharedOctets: 16 } as const;
const PENDING_HANDSHAKES = 32;
const HANDSHAKE_MS = 5000;
const REQUEST_MS = 10_000;
const CLOSE_MS = 1000;

/**
 * The door for other agents: open only while a manager's grant says so, to the addresses and keys of the grants' peers;
 * each request besides needs a grant for just that.
 */
export class PeerDoor implements PeerDoorControl {
  readonly #options: PeerDoorOptions;
  readonly #rate: AddressRate;
  #door: PinnedDoor | undefined;

  constructor(options: PeerDoorOptions) {
    this.#options = options;
    // Outlives the door, so that opening it anew gives nothing back.
    this.#rate = new AddressRate({ clock: options.clock, ...CONNECTIONS });
  }

  async open(guests: PeerGuests): Promise<number> {
    const { identity, handlers, log, clock, port, requestMs = REQUEST_MS } = this.#options;
    const door = await openPinnedDoor({
      door: 'peer',
      handlers,
      log,
      limits: LIMITS,
      requestMs,
      listen: {
        identity,
        diallers: 'agent',
        trustedPeers: () => guests.pins(),
        port,
        admitAddress: (remoteAddress) => guests.admitsAddress(remoteAddress),
        rate: this.#rate,
        maxChannelsPerPeer: (pin) => Math.min(CHANNELS.most, CHANNELS.besides + guests.grantsOf(pin)),
        maxPendingHandshakes: PENDING_HANDSHAKES,
        handshakeMs: HANDSHAKE_MS,
        clock,
        onRefused: (refusal) => {
          log.warn({ ...refusal }, 'connection of an agent refused');
          guests.refused(refusal.remoteAddress, `connection refused: ${JSON.stringify(refusal.reason)}`);
        },
      },
      callerOf: (peer, request, operation) => this.#callerOf(peer, request, operation),
    });
    this.#door = door;
    return door.address.port;
  }

  refresh(): void {
    this.#door?.refresh();
  }

  async close(): Promise<void> {
    const door = this.#door;
    this.#door = undefined;
    // What was asked while it was allowed is answered; nothing else is taken any more.
    await door?.close(AbortSignal.timeout(CLOSE_MS));
  }

  /** SECURITY: by the key that the handshake proved and the grant that the path names, at each request anew. */
  #callerOf(peer: ProvenPeer, request: FastifyRequest, operation: AgentOperation): Caller {
    const { granted, goesOn = false } = operation;
    if (granted === undefined)
      throw new TrustError(
        'grant.no_operation',
        'internal',
        `cannot answer: no grant is for ${operation.id}`,
      );
    const { id } = request.params as { id: string };
    const asking = { pin: peer.pin, address: peer.remoteAddress };
    const grant = this.#options.grants.admit(id.slice(0, 64), asking, { granted, goesOn });
    return { door: 'peer', peerPin: peer.pin, remoteAddress: peer.remoteAddress, grant };
  }
}
