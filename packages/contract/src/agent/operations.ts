import Type from 'typebox';
import { AgentEvent } from '../model/agent-event.ts';
import { CrlDelivery, InstalledCrl, RevokedParty } from '../model/crl.ts';
import { DesiredState } from '../model/desired-state.ts';
import { Inventory } from '../model/inventory.ts';
import {
  CertificateRequest,
  IssuedCertificate,
  ObservedState,
  ProofVerdict,
} from '../model/observed-state.ts';
import { Count, Line, Pin, Text, Time } from '../model/primitives.ts';
import type { OperationsById } from '../operation.ts';
import type { AgentOperation } from './agent-operation.ts';
import { createConsolePassword, getVmDisplays } from './console-operations.ts';
import { GRANT_OPERATIONS } from './grant-operations.ts';
import {
  activateIdentity,
  announceIdentity,
  getIdentity,
  putManagers,
  retireIdentity,
} from './identity-operations.ts';
import {
  cancelMigration,
  createMigration,
  getMigration,
  listVms,
  startMigration,
} from './migration-operations.ts';
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
