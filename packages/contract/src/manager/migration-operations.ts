import Type from 'typebox';
import { Job } from '../model/job.ts';
import { EvacuateHost, MigrateVm } from '../model/migration.ts';
import { MigrationMatrix, MigrationPlan } from '../model/migration-plan.ts';
import { Address, Name } from '../model/primitives.ts';
import { UnmanagedHost } from '../model/unmanaged-host.ts';
import { ByName, type ManagerOperation, strict } from './operation-parts.ts';

export const createMigrationJob = {
  id: 'createMigrationJob',
  summary:
    'Migrates a VM. Refused at once where no mode is feasible; the answer has the decision with its warnings.',
  method: 'POST',
  path: '/api/v1/migrations',
  body: MigrateVm,
  result: Job,
  status: 202,
  access: 'operator',
} as const satisfies ManagerOperation;
export const planMigration = {
  id: 'planMigration',
  summary: 'Decides and checks a migration with real handshakes, and migrates nothing.',
  method: 'POST',
  path: '/api/v1/migrations/plan',
  body: MigrateVm,
  result: MigrationPlan,
  status: 200,
  access: 'operator',
} as const satisfies ManagerOperation;
export const getMigrationMatrix = {
  id: 'getMigrationMatrix',
  summary:
    'How VMs would migrate between all hosts, from what these reported; `probe` makes the handshakes, too.',
  method: 'GET',
  path: '/api/v1/migrations/matrix',
  query: Type.Object({ cluster: Type.Optional(Name), probe: Type.Optional(Type.Boolean()) }, strict),
  result: MigrationMatrix,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const evacuateHost = {
  id: 'evacuateHost',
  summary: 'Migrates every VM that runs on a host to others, a bounded number at once.',
  method: 'POST',
  path: '/api/v1/hosts/{name}/evacuation',
  params: ByName,
  body: EvacuateHost,
  result: Job,
  status: 202,
  access: 'operator',
} as const satisfies ManagerOperation;
export const listUnmanagedHosts = {
  id: 'listUnmanagedHosts',
  summary: 'Hosts without an agent, known as ends of plain migrations only.',
  method: 'GET',
  path: '/api/v1/unmanaged-hosts',
  result: Type.Object({ items: Type.Array(UnmanagedHost, { maxItems: 10_000 }) }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const putUnmanagedHost = {
  id: 'putUnmanagedHost',
  summary:
    'Makes a host without an agent known, so that VMs can migrate from and to it where plain is allowed.',
  method: 'PUT',
  path: '/api/v1/unmanaged-hosts/{name}',
  params: ByName,
  body: Type.Object({ address: Address, cluster: Type.Optional(Name) }, strict),
  result: UnmanagedHost,
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;
export const deleteUnmanagedHost = {
  id: 'deleteUnmanagedHost',
  summary: 'Forgets a host without an agent.',
  method: 'DELETE',
  path: '/api/v1/unmanaged-hosts/{name}',
  params: ByName,
  result: Type.Unknown(),
  status: 204,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const MIGRATION_OPERATIONS = [
  createMigrationJob,
  planMigration,
  getMigrationMatrix,
  evacuateHost,
  listUnmanagedHosts,
  putUnmanagedHost,
  deleteUnmanagedHost,
] as const satisfies readonly ManagerOperation[];
