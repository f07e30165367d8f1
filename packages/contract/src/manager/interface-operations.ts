import Type from 'typebox';
import { HostDetail, SetHostAddress } from '../model/host.ts';
import { InterfaceView, SetInterface } from '../model/interface.ts';
import { Job } from '../model/job.ts';
import { InterfaceName, Name } from '../model/primitives.ts';
import { ByName, type ManagerOperation, strict } from './operation-parts.ts';

export const listInterfaces = {
  id: 'listInterfaces',
  summary: 'The interfaces of a host, with roles, names, what is refused of them, and the services on them.',
  method: 'GET',
  path: '/api/v1/hosts/{name}/interfaces',
  params: ByName,
  result: Type.Object({ items: Type.Array(InterfaceView, { maxItems: 512 }) }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const setInterface = {
  id: 'setInterface',
  summary:
    "Says what an interface is for and what it is called, in the administrator's word; the certificates concerned follow.",
  method: 'PUT',
  path: '/api/v1/hosts/{name}/interfaces/{interface}',
  params: Type.Object({ name: Name, interface: InterfaceName }, strict),
  body: SetInterface,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const setHostAddress = {
  id: 'setHostAddress',
  summary:
    'Says where a host is now, where its agent can not report it: the channel is dialled there, and certificates follow.',
  method: 'PUT',
  path: '/api/v1/hosts/{name}/address',
  params: ByName,
  body: SetHostAddress,
  result: Job,
  status: 202,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const renameHost = {
  id: 'renameHost',
  summary: 'Gives a host another name; its certificates follow at once.',
  method: 'PUT',
  path: '/api/v1/hosts/{name}/name',
  params: ByName,
  body: Type.Object({ name: Name }, strict),
  result: HostDetail,
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const INTERFACE_OPERATIONS = [
  listInterfaces,
  setInterface,
  setHostAddress,
  renameHost,
] as const satisfies readonly ManagerOperation[];
