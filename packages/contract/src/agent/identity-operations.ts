import Type from 'typebox';
import { AgentIdentity, ManagerPins } from '../model/agent-identity.ts';
import { Pin } from '../model/primitives.ts';
import type { AgentOperation } from './agent-operation.ts';

const strict = { additionalProperties: false };

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
