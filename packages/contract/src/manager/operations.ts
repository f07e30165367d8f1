import Type from 'typebox';
import { Role, Token } from '../model/access.ts';
import { AgentIdentity } from '../model/agent-identity.ts';
import { AuditEntry } from '../model/audit-entry.ts';
import { Authority } from '../model/authority.ts';
import { Certificate, IssueCertificate } from '../model/certificate.ts';
import { Gate } from '../model/gate.ts';
import { AddHost, HostDetail, HostSummary, ProvisionHost } from '../model/host.ts';
import { Job } from '../model/job.ts';
import { Count, Line, Name, Pem, SerialHex, Text } from '../model/primitives.ts';
import { Setting, SettingChange, SettingValue } from '../model/setting.ts';
import { SshHostKey, SshTarget } from '../model/ssh.ts';
import { ALARM_OPERATIONS } from './alarm-operations.ts';
import { CONSOLE_OPERATIONS } from './console-operations.ts';
import { INTERFACE_OPERATIONS } from './interface-operations.ts';
import { LIFECYCLE_OPERATIONS } from './lifecycle-operations.ts';
import { MIGRATION_OPERATIONS } from './migration-operations.ts';
import { ById, ByName, type ManagerOperation, Page, pageOf, Scope, strict } from './operation-parts.ts';
import { SECRET_OPERATIONS } from './secret-operations.ts';

export const getHealth = {
  id: 'getHealth',
  summary: 'Alive.',
  method: 'GET',
  path: '/healthz',
  result: Type.String(),
  status: 200,
  produces: 'text/plain',
  access: 'public',
} as const satisfies ManagerOperation;
export const getReady = {
  id: 'getReady',
  summary: 'Ready to serve: store open, keys unsealed.',
  method: 'GET',
  path: '/readyz',
  result: Type.String(),
  status: 200,
  produces: 'text/plain',
  access: 'public',
} as const satisfies ManagerOperation;
export const getMetrics = {
  id: 'getMetrics',
  summary: 'Figures in Prometheus text format.',
  method: 'GET',
  path: '/metrics',
  result: Type.String(),
  status: 200,
  produces: 'text/plain',
  access: 'auditor',
} as const satisfies ManagerOperation;
export const getOpenApi = {
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
/** `compromised`: the standby key is replaced too. */
const RollKey = Type.Object({ compromised: Type.Optional(Type.Boolean()) }, strict);
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

export const listCertificates = {
  id: 'listCertificates',
  summary: 'The certificates, newest first.',
  method: 'GET',
  path: '/api/v1/certificates',
  query: Type.Object({ ...Page.properties, host: Type.Optional(Name) }, strict),
  result: pageOf(Certificate),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const getCertificate = {
  id: 'getCertificate',
  summary: 'A certificate.',
  method: 'GET',
  path: '/api/v1/certificates/{serial}',
  params: Type.Object({ serial: SerialHex }, strict),
  result: Certificate,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const issueCertificate = {
  id: 'issueCertificate',
  summary: 'A certificate for a request of a host, for names and addresses that the host has.',
  method: 'POST',
  path: '/api/v1/certificates',
  body: IssueCertificate,
  result: Type.Object({ serialNumber: SerialHex, pem: Pem }, strict),
  status: 201,
  access: 'operator',
} as const satisfies ManagerOperation;

export const listAuthorities = {
  id: 'listAuthorities',
  summary: 'The authorities.',
  method: 'GET',
  path: '/api/v1/authorities',
  result: Type.Object({ items: Type.Array(Authority, { maxItems: 64 }) }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const getAuthority = {
  id: 'getAuthority',
  summary: 'An authority with its certificates.',
  method: 'GET',
  path: '/api/v1/authorities/{name}',
  params: ByName,
  result: Authority,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const listJobs = {
  id: 'listJobs',
  summary: 'The jobs, newest first.',
  method: 'GET',
  path: '/api/v1/jobs',
  query: Page,
  result: pageOf(Job),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const getJob = {
  id: 'getJob',
  summary: 'A job.',
  method: 'GET',
  path: '/api/v1/jobs/{id}',
  params: ById,
  result: Job,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const cancelJob = {
  id: 'cancelJob',
  summary: 'Cancels a job where that leaves nothing half done.',
  method: 'DELETE',
  path: '/api/v1/jobs/{id}',
  params: ById,
  result: Job,
  status: 202,
  access: 'operator',
} as const satisfies ManagerOperation;
export const watchJob = {
  id: 'watchJob',
  summary: 'A job as server-sent events `job`, until it is over.',
  method: 'GET',
  path: '/api/v1/jobs/{id}/events',
  params: ById,
  result: Type.Unknown(),
  status: 200,
  produces: 'text/event-stream',
  access: 'auditor',
} as const satisfies ManagerOperation;
export const watchEvents = {
  id: 'watchEvents',
  summary: 'What happens in the fleet as server-sent events; `Last-Event-ID` resumes.',
  method: 'GET',
  path: '/api/v1/events',
  query: Type.Object({ after: Type.Optional(Count) }, strict),
  result: Type.Unknown(),
  status: 200,
  produces: 'text/event-stream',
  access: 'auditor',
} as const satisfies ManagerOperation;

export const listSettings = {
  id: 'listSettings',
  summary: 'The settings with their effective values.',
  method: 'GET',
  path: '/api/v1/settings',
  query: Scope,
  result: Type.Object({ items: Type.Array(Setting, { maxItems: 256 }) }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const putSetting = {
  id: 'putSetting',
  summary: 'Sets a setting globally, or for a cluster or host; null takes it back.',
  method: 'PUT',
  path: '/api/v1/settings/{setting}',
  params: Type.Object({ setting: Name }, strict),
  query: Scope,
  body: Type.Object({ value: Type.Union([SettingValue, Type.Null()]) }, strict),
  result: SettingChange,
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const listAudit = {
  id: 'listAudit',
  summary: 'The audit log, oldest first.',
  method: 'GET',
  path: '/api/v1/audit',
  query: Page,
  result: pageOf(AuditEntry),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const verifyAudit = {
  id: 'verifyAudit',
  summary: 'Recomputes the hash chain of the audit log.',
  method: 'GET',
  path: '/api/v1/audit/verification',
  result: Type.Object(
    { entries: Count, head: Line, intact: Type.Boolean(), problem: Type.Union([Text, Type.Null()]) },
    strict,
  ),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const listTokens = {
  id: 'listTokens',
  summary: 'The tokens, without their secrets.',
  method: 'GET',
  path: '/api/v1/tokens',
  result: Type.Object({ items: Type.Array(Token, { maxItems: 1000 }) }, strict),
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;
export const createToken = {
  id: 'createToken',
  summary: 'Makes a token; its secret is shown in this answer and never again.',
  method: 'POST',
  path: '/api/v1/tokens',
  body: Type.Object({ name: Name, role: Role }, strict),
  result: Type.Object({ token: Token, secret: Line }, strict),
  status: 201,
  access: 'administrator',
} as const satisfies ManagerOperation;
export const deleteToken = {
  id: 'deleteToken',
  summary: 'Takes a token away.',
  method: 'DELETE',
  path: '/api/v1/tokens/{id}',
  params: ById,
  result: Type.Unknown(),
  status: 204,
  access: 'administrator',
} as const satisfies ManagerOperation;

/** Every operation of the manager's API. */
export const MANAGER_OPERATIONS: readonly ManagerOperation[] = [
  getHealth,
  getReady,
  getMetrics,
  getOpenApi,
  getWhoAmI,
  scanSshHostKeys,
  listHosts,
  addHost,
  getHost,
  removeHost,
  collectHost,
  provisionHost,
  passGate,
  rollHostKey,
  rollManagerKey,
  getManagerIdentity,
  listCertificates,
  getCertificate,
  issueCertificate,
  listAuthorities,
  getAuthority,
  listJobs,
  getJob,
  cancelJob,
  watchJob,
  watchEvents,
  listSettings,
  putSetting,
  listAudit,
  verifyAudit,
  listTokens,
  createToken,
  deleteToken,
  ...LIFECYCLE_OPERATIONS,
  ...ALARM_OPERATIONS,
  ...SECRET_OPERATIONS,
  ...INTERFACE_OPERATIONS,
  ...CONSOLE_OPERATIONS,
  ...MIGRATION_OPERATIONS,
];
