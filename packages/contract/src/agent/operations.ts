import Type from 'typebox';
import { AgentEvent } from '../model/agent-event.ts';
import { AgentIdentity, ManagerPins } from '../model/agent-identity.ts';
import { ConsolePassword, ConsoleType, VmDisplays } from '../model/console.ts';
import { CrlDelivery, InstalledCrl, RevokedParty } from '../model/crl.ts';
import { DesiredState } from '../model/desired-state.ts';
import { HostVms } from '../model/host-vm.ts';
import { Inventory } from '../model/inventory.ts';
import { MigrationOrder, MigrationStatus, PreparedVm } from '../model/migration.ts';
import {
  CertificateRequest,
  IssuedCertificate,
  ObservedState,
  ProofVerdict,
} from '../model/observed-state.ts';
import { Address, Count, Line, Pem, Pin, Text, Time, Uuid, VmName } from '../model/primitives.ts';
import type { OperationsById } from '../operation.ts';
import type { AgentOperation } from './agent-operation.ts';
import { GRANT_OPERATIONS } from './grant-operations.ts';
import { PEER_OPERATIONS } from './peer-operations.ts';

const strict = { additionalProperties: false };

const AgentStatus = Type.Object(
  {
    version: Line,
    mode: Type.Union([Type.Literal('observe'), Type.Literal('manage')]),
    hostName: Line,
    pin: Pin,
    managers: Type.Array(Pin, { maxItems: 16 }),
    listen: Line,
    /** The agent's clock now. */
    now: Time,
    startedAt: Time,
    lastEvent: Count,
    channels: Type.Array(Type.Object({ remoteAddress: Line, managerPin: Pin, since: Time }, strict), {
      maxItems: 64,
    }),
  },
  strict,
);

export const getStatus = {
  id: 'getStatus',
  summary: 'Who the agent is and whom it obeys.',
  method: 'GET',
  path: '/v1/status',
  result: AgentStatus,
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const getInventory = {
  id: 'getInventory',
  summary: 'What is on the host now.',
  method: 'GET',
  path: '/v1/inventory',
  result: Inventory,
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const listEvents = {
  id: 'listEvents',
  summary: 'What happened after sequence number N, oldest first; waits up to `wait` seconds for the first.',
  method: 'GET',
  path: '/v1/events',
  query: Type.Object(
    {
      after: Type.Optional(Count),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
      wait: Type.Optional(Type.Integer({ minimum: 0, maximum: 60 })),
    },
    strict,
  ),
  result: Type.Object({ events: Type.Array(AgentEvent, { maxItems: 1000 }), last: Count }, strict),
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const getObservedState = {
  id: 'getObservedState',
  summary: 'What the agent made of the desired state.',
  method: 'GET',
  path: '/v1/observed-state',
  result: ObservedState,
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const putDesiredState = {
  id: 'putDesiredState',
  summary: 'What the manager wants; an older one than the agent has is refused.',
  method: 'PUT',
  path: '/v1/desired-state',
  body: DesiredState,
  result: ObservedState,
  status: 202,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const getDesiredState = {
  id: 'getDesiredState',
  summary:
    'What the manager wanted last, null before the first: for a manager that was restored from before it.',
  method: 'GET',
  path: '/v1/desired-state',
  result: Type.Union([DesiredState, Type.Null()]),
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const listCertificateRequests = {
  id: 'listCertificateRequests',
  summary: 'The certificate requests that wait for the manager.',
  method: 'GET',
  path: '/v1/certificate-requests',
  result: Type.Object({ requests: Type.Array(CertificateRequest, { maxItems: 16 }) }, strict),
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const putCertificates = {
  id: 'putCertificates',
  summary: 'The certificates for the requests; the agent stages, verifies, switches and proves.',
  method: 'PUT',
  path: '/v1/certificates',
  body: Type.Object({ certificates: Type.Array(IssuedCertificate, { minItems: 1, maxItems: 16 }) }, strict),
  result: ObservedState,
  status: 202,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const postProofs = {
  id: 'postProofs',
  summary: 'What the manager saw when it made the handshake itself.',
  method: 'POST',
  path: '/v1/proofs',
  body: Type.Object({ proofs: Type.Array(ProofVerdict, { minItems: 1, maxItems: 16 }) }, strict),
  result: ObservedState,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const putCrls = {
  id: 'putCrls',
  summary:
    "Verifies the CRLs against the host's own bundles, installs them, has daemons load them, and cuts sessions of revoked parties; an older number than the host has is refused.",
  method: 'PUT',
  path: '/v1/crls',
  body: Type.Object(
    {
      crls: Type.Array(CrlDelivery, { maxItems: 8 }),
      revoked: Type.Array(RevokedParty, { maxItems: 64 }),
    },
    strict,
  ),
  result: Type.Object(
    {
      crls: Type.Array(InstalledCrl, { maxItems: 16 }),
      /** Sessions that were cut, in words. */
      disconnected: Type.Array(Line, { maxItems: 4096 }),
    },
    strict,
  ),
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const getCrls = {
  id: 'getCrls',
  summary:
    'The CRLs of the manager that the host holds, one for each purpose: for a manager that was restored from before it signed them.',
  method: 'GET',
  path: '/v1/crls',
  result: Type.Object({ crls: Type.Array(CrlDelivery, { maxItems: 8 }) }, strict),
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const getIdentity = {
  id: 'getIdentity',
  summary: 'The keys by which the agent is known.',
  method: 'GET',
  path: '/v1/identity',
  result: AgentIdentity,
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const announceIdentity = {
  id: 'announceIdentity',
  summary: 'Makes the next key of the agent, and says its pin.',
  method: 'POST',
  path: '/v1/identity/announce',
  result: AgentIdentity,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const activateIdentity = {
  id: 'activateIdentity',
  summary: 'Uses the announced key from the next connection on.',
  method: 'POST',
  path: '/v1/identity/activate',
  body: Type.Object({ pin: Pin }, strict),
  result: AgentIdentity,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const retireIdentity = {
  id: 'retireIdentity',
  summary: 'Destroys the former key.',
  method: 'POST',
  path: '/v1/identity/retire',
  body: Type.Object({ pin: Pin }, strict),
  result: AgentIdentity,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const putManagers = {
  id: 'putManagers',
  summary: 'The managers that the agent obeys from now on; must keep the one that asks.',
  method: 'PUT',
  path: '/v1/managers',
  body: ManagerPins,
  result: ManagerPins,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const createMigration = {
  id: 'createMigration',
  summary:
    'Prepares a migration that this agent conducts: looks at the VM, and in mode `tls` makes a key and asks for a client certificate.',
  method: 'POST',
  path: '/v1/migrations',
  body: MigrationOrder,
  result: Type.Object({ csr: Type.Union([Pem, Type.Null()]), vm: PreparedVm }, strict),
  status: 201,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const startMigration = {
  id: 'startMigration',
  summary: 'Starts the prepared migration, in mode `tls` with its client certificate.',
  method: 'PUT',
  path: '/v1/migrations/{id}/start',
  params: Type.Object({ id: Uuid }, strict),
  body: Type.Object({ certificate: Type.Union([Pem, Type.Null()]) }, strict),
  result: MigrationStatus,
  status: 202,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const getMigration = {
  id: 'getMigration',
  summary: 'How far a migration is; waits up to `wait` seconds for a change of phase or progress.',
  method: 'GET',
  path: '/v1/migrations/{id}',
  params: Type.Object({ id: Uuid }, strict),
  query: Type.Object({ wait: Type.Optional(Type.Integer({ minimum: 0, maximum: 30 })) }, strict),
  result: MigrationStatus,
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const cancelMigration = {
  id: 'cancelMigration',
  summary: 'Cancels a migration; the VM goes on where it runs.',
  method: 'DELETE',
  path: '/v1/migrations/{id}',
  params: Type.Object({ id: Uuid }, strict),
  result: MigrationStatus,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const listVms = {
  id: 'listVms',
  summary:
    'Every VM that libvirt has, running or off; with `address`, those of the libvirt there, over its plain TCP.',
  method: 'GET',
  path: '/v1/vms',
  query: Type.Object({ address: Type.Optional(Address) }, strict),
  result: HostVms,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const getVmDisplays = {
  id: 'getVmDisplays',
  summary: 'The display servers of a running VM.',
  method: 'GET',
  path: '/v1/vms/{vm}/displays',
  params: Type.Object({ vm: VmName }, strict),
  result: VmDisplays,
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const createConsolePassword = {
  id: 'createConsolePassword',
  summary:
    "Makes the password of a VM's display for one visit: it goes once a client has come in with it, or with its time.",
  method: 'POST',
  path: '/v1/vms/{vm}/displays/{type}/password',
  params: Type.Object({ vm: VmName, type: ConsoleType }, strict),
  body: Type.Object({ seconds: Type.Integer({ minimum: 5, maximum: 3600 }) }, strict),
  result: ConsolePassword,
  status: 201,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const postRemoval = {
  id: 'postRemoval',
  summary: 'Gives the host back what was found on it; the service itself goes after the answer was read.',
  method: 'POST',
  path: '/v1/removal',
  result: Type.Object(
    { restored: Type.Array(Line, { maxItems: 512 }), left: Type.Array(Text, { maxItems: 512 }) },
    strict,
  ),
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

const OPERATIONS = [
  getStatus,
  getInventory,
  listEvents,
  getObservedState,
  putDesiredState,
  getDesiredState,
  listCertificateRequests,
  putCertificates,
  postProofs,
  putCrls,
  getCrls,
  getIdentity,
  announceIdentity,
  activateIdentity,
  retireIdentity,
  putManagers,
  createMigration,
  startMigration,
  getMigration,
  cancelMigration,
  listVms,
  getVmDisplays,
  createConsolePassword,
  postRemoval,
  ...GRANT_OPERATIONS,
  ...PEER_OPERATIONS,
] as const;

/** Every operation of the agent's API. */
export const AGENT_OPERATIONS: readonly AgentOperation[] = OPERATIONS;
/** The same by their ids, as their handlers are typed. */
export type AgentOperations = OperationsById<typeof OPERATIONS>;
