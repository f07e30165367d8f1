import Type from 'typebox';
import { Grant, GrantState } from '../model/grant.ts';
import { PreflightOrder, PreflightReport } from '../model/preflight.ts';
import { Uuid } from '../model/primitives.ts';
import type { AgentOperation } from './agent-operation.ts';

const strict = { additionalProperties: false };
const ByGrant = Type.Object({ id: Uuid }, strict);

export const putGrant = {
  id: 'putGrant',
  summary:
    'Lets another agent ask what the grant names, for one migration; the peer door opens. Only the manager that gave a grant changes it or takes it away.',
  method: 'PUT',
  path: '/v1/grants/{id}',
  params: ByGrant,
  body: Grant,
  result: GrantState,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const deleteGrant = {
  id: 'deleteGrant',
  summary: 'Takes a grant away, with every socket of it; with the last one the peer door closes.',
  method: 'DELETE',
  path: '/v1/grants/{id}',
  params: ByGrant,
  result: Type.Object({}, strict),
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const listGrants = {
  id: 'listGrants',
  summary: 'The grants that this host holds now: to a manager its own, to this host itself all.',
  method: 'GET',
  path: '/v1/grants',
  result: Type.Object({ grants: Type.Array(GrantState, { maxItems: 256 }) }, strict),
  status: 200,
  doors: ['channel', 'local'],
} as const satisfies AgentOperation;

export const createPreflight = {
  id: 'createPreflight',
  summary:
    'Checks this side of a migration, with real handshakes towards the other where asked; changes nothing.',
  method: 'POST',
  path: '/v1/preflights',
  body: PreflightOrder,
  result: PreflightReport,
  status: 200,
  doors: ['channel'],
} as const satisfies AgentOperation;

export const GRANT_OPERATIONS = [
  putGrant,
  deleteGrant,
  listGrants,
  createPreflight,
] as const satisfies readonly AgentOperation[];
