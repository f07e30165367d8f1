import Type from 'typebox';
import { Role } from '../model/access.ts';
import { AgentIdentity } from '../model/agent-identity.ts';
import { Job } from '../model/job.ts';
import { Line, Name } from '../model/primitives.ts';
import { type ManagerOperation, RollKey, strict } from './operation-parts.ts';

const getHealth = {
  id: 'getHealth',
  summary: 'Alive.',
  method: 'GET',
  path: '/healthz',
  result: Type.String(),
  status: 200,
  produces: 'text/plain',
  access: 'public',
} as const satisfies ManagerOperation;

const getReady = {
  id: 'getReady',
  summary: 'Ready to serve: store open, keys unsealed.',
  method: 'GET',
  path: '/readyz',
  result: Type.String(),
  status: 200,
  produces: 'text/plain',
  access: 'public',
} as const satisfies ManagerOperation;

const getMetrics = {
  id: 'getMetrics',
  summary: 'Figures in Prometheus text format.',
  method: 'GET',
  path: '/metrics',
  result: Type.String(),
  status: 200,
  produces: 'text/plain',
  access: 'auditor',
} as const satisfies ManagerOperation;

const getOpenApi = {
  id: 'getOpenApi',
  summary: 'This document.',
  method: 'GET',
  path: '/api/v1/openapi.json',
  result: Type.Unknown(),
  status: 200,
  access: 'public',
} as const satisfies ManagerOperation;

export const getWhoAmI = {
  id: 'getWhoAmI',
  summary: 'The token that asks, and the version of the manager.',
  method: 'GET',
  path: '/api/v1/whoami',
  result: Type.Object({ name: Name, role: Role, version: Line }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const rollManagerKey = {
  id: 'rollManagerKey',
  summary:
    "Replaces the manager's channel key by its standby on every host, over the channels; twice where a copy of both may be in other hands.",
  method: 'POST',
  path: '/api/v1/manager/key',
  query: RollKey,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const getManagerIdentity = {
  id: 'getManagerIdentity',
  summary: "The manager's channel pins.",
  method: 'GET',
  path: '/api/v1/manager/identity',
  result: AgentIdentity,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const SELF_OPERATIONS = [
  getHealth,
  getReady,
  getMetrics,
  getOpenApi,
  getWhoAmI,
  rollManagerKey,
  getManagerIdentity,
] as const satisfies readonly ManagerOperation[];
