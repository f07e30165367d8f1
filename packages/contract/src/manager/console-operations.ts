import { Console, OpenConsole } from '../model/console.ts';
import type { ManagerOperation } from './operation-parts.ts';

export const openConsole = {
  id: 'openConsole',
  summary:
    "What a client needs to reach a VM's display: address or name, ports, CA, a password for one visit, and a connection file.",
  method: 'POST',
  path: '/api/v1/consoles',
  body: OpenConsole,
  result: Console,
  status: 200,
  access: 'operator',
} as const satisfies ManagerOperation;

export const CONSOLE_OPERATIONS = [openConsole] as const satisfies readonly ManagerOperation[];
