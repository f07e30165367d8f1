import Type from 'typebox';
import { ConsolePassword, ConsoleType, VmDisplays } from '../model/console.ts';
import { VmName } from '../model/primitives.ts';
import type { AgentOperation } from './agent-operation.ts';

const strict = { additionalProperties: false };

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
