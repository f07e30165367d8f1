import Type from 'typebox';
import { HostVms } from '../model/host-vm.ts';
import { MigrationOrder, MigrationStatus, PreparedVm } from '../model/migration.ts';
import { Address, Pem, Uuid } from '../model/primitives.ts';
import type { AgentOperation } from './agent-operation.ts';

const strict = { additionalProperties: false };

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
