import Type from 'typebox';
import { MigrationPhase } from '../model/migration.ts';
import { HandshakeServer } from '../model/preflight.ts';
import { Address, Line, Port, Text, Time, Uuid } from '../model/primitives.ts';
import type { AgentOperation } from './agent-operation.ts';

const strict = { additionalProperties: false };
const ByGrant = Type.Object({ id: Uuid }, strict);

/** What becomes of a VM on one host. */
const PeerVmState = Type.Object(
  {
    now: Time,
    /** As libvirt says it: `running`, `paused`, ...; null where the VM is not there. */
    state: Type.Union([Line, Type.Null()]),
    /** Why, as libvirt says it: `migration`, `post-copy failed`, ...; empty where it says nothing. */
    reason: Line,
    /** Where the agent there conducts the migration: how it stands. */
    phase: Type.Union([MigrationPhase, Type.Null()]),
  },
  strict,
);

export const peerCreateMigration = {
  id: 'peerCreateMigration',
  summary:
    "The source tells the destination that it begins: the VM's XML, which must be the grant's. In mode `pinned` the answer has the port at which the relay takes its streams.",
  method: 'POST',
  path: '/v1/peer/migrations/{id}',
  params: ByGrant,
  body: Type.Object(
    {
      xml: Type.String({ maxLength: 1_000_000 }),
      persistentXml: Type.Union([Type.String({ maxLength: 1_000_000 }), Type.Null()]),
    },
    strict,
  ),
  result: Type.Object({ relayPort: Type.Union([Port, Type.Null()]) }, strict),
  status: 201,
  doors: ['peer'],
  granted: 'create',
} as const satisfies AgentOperation;

export const peerGetVmState = {
  id: 'peerGetVmState',
  summary:
    "Where the grant's VM stands on this host; also after the grant's time, until the migration is over.",
  method: 'GET',
  path: '/v1/peer/migrations/{id}',
  params: ByGrant,
  result: PeerVmState,
  status: 200,
  doors: ['peer'],
  granted: 'status',
  goesOn: true,
} as const satisfies AgentOperation;

export const peerEndMigration = {
  id: 'peerEndMigration',
  summary: 'The source says that it is over: the relay and its sockets go.',
  method: 'DELETE',
  path: '/v1/peer/migrations/{id}',
  params: ByGrant,
  body: Type.Object({ outcome: Text }, strict),
  result: Type.Object({}, strict),
  status: 200,
  doors: ['peer'],
  granted: 'create',
  goesOn: true,
} as const satisfies AgentOperation;

export const peerServeHandshake = {
  id: 'peerServeHandshake',
  summary:
    "Listens for a moment with QEMU's own TLS code and this host's migration files, for a handshake of a preflight.",
  method: 'POST',
  path: '/v1/peer/preflights/{id}/servers',
  params: ByGrant,
  /** Where QEMU will listen: an address of the host's own; else, in front of NAT, every one. */
  body: Type.Object({ address: Address }, strict),
  result: HandshakeServer,
  status: 201,
  doors: ['peer'],
  granted: 'preflight',
} as const satisfies AgentOperation;

/** What an agent with a grant may ask of another. */
export const PEER_OPERATIONS = [
  peerCreateMigration,
  peerGetVmState,
  peerEndMigration,
  peerServeHandshake,
] as const satisfies readonly AgentOperation[];
