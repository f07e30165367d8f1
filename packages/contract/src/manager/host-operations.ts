import Type from 'typebox';
import { Gate } from '../model/gate.ts';
import { AddHost, HostDetail, HostSummary, ProvisionHost } from '../model/host.ts';
import { Job } from '../model/job.ts';
import { Name } from '../model/primitives.ts';
import { SshHostKey, SshTarget } from '../model/ssh.ts';
import { ByName, type ManagerOperation, Page, pageOf, RollKey, strict } from './operation-parts.ts';

export const scanSshHostKeys = {
  id: 'scanSshHostKeys',
  summary: 'The SSH host keys that a machine shows, for acceptance; nothing is run on it.',
  method: 'POST',
  path: '/api/v1/ssh-host-keys',
  body: SshTarget,
  result: Type.Object({ keys: Type.Array(SshHostKey, { maxItems: 8 }) }, strict),
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const listHosts = {
  id: 'listHosts',
  summary: 'The hosts.',
  method: 'GET',
  path: '/api/v1/hosts',
  query: Page,
  result: pageOf(HostSummary),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const addHost = {
  id: 'addHost',
  summary: 'Enrols a host over SSH and brings its certificates right.',
  method: 'POST',
  path: '/api/v1/hosts',
  body: AddHost,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const getHost = {
  id: 'getHost',
  summary: 'A host with its inventory and state.',
  method: 'GET',
  path: '/api/v1/hosts/{name}',
  params: ByName,
  result: HostDetail,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const removeHost = {
  id: 'removeHost',
  summary:
    'Gives the host back what was found on it and forgets it; `force` forgets one that cannot be reached.',
  method: 'DELETE',
  path: '/api/v1/hosts/{name}',
  params: ByName,
  query: Type.Object({ force: Type.Optional(Type.Boolean()) }, strict),
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const collectHost = {
  id: 'collectHost',
  summary: 'Reads the inventory anew.',
  method: 'POST',
  path: '/api/v1/hosts/{name}/collect',
  params: ByName,
  result: HostDetail,
  status: 200,
  access: 'operator',
} as const satisfies ManagerOperation;

export const provisionHost = {
  id: 'provisionHost',
  summary:
    'Makes the certificates of a host right; `renew` makes new keys although the present ones are good, `provider` has them from another kind of CA than the setting certificate.provider, `reconnect` dials the channel anew and proves every endpoint again.',
  method: 'POST',
  path: '/api/v1/hosts/{name}/provision',
  params: ByName,
  body: ProvisionHost,
  result: Job,
  status: 202,
  access: 'operator',
} as const satisfies ManagerOperation;

export const passGate = {
  id: 'passGate',
  summary: 'Takes a step of adoption that takes something away; `force` in spite of the blockers named.',
  method: 'POST',
  path: '/api/v1/hosts/{name}/gates/{gate}',
  params: Type.Object({ name: Name, gate: Gate }, strict),
  body: Type.Object({ force: Type.Optional(Type.Boolean()) }, strict),
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const rollHostKey = {
  id: 'rollHostKey',
  summary:
    "Replaces the agent's channel key by its standby, over the channel; twice where a copy of both may be in other hands.",
  method: 'POST',
  path: '/api/v1/hosts/{name}/key',
  params: ByName,
  query: RollKey,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const HOST_OPERATIONS = [
  scanSshHostKeys,
  listHosts,
  addHost,
  getHost,
  removeHost,
  collectHost,
  provisionHost,
  passGate,
  rollHostKey,
] as const satisfies readonly ManagerOperation[];
