import Type from 'typebox';
import { Alarm, Webhook } from '../model/alarm.ts';
import { Line, Name, Text } from '../model/primitives.ts';
import { ById, type ManagerOperation, Page, pageOf, strict } from './operation-parts.ts';

export const listAlarms = {
  id: 'listAlarms',
  summary: 'The alarms, newest first; those that are cleared only with `cleared`.',
  method: 'GET',
  path: '/api/v1/alarms',
  query: Type.Object(
    { ...Page.properties, host: Type.Optional(Name), cleared: Type.Optional(Type.Boolean()) },
    strict,
  ),
  result: pageOf(Alarm),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const getAlarm = {
  id: 'getAlarm',
  summary: 'An alarm.',
  method: 'GET',
  path: '/api/v1/alarms/{id}',
  params: ById,
  result: Alarm,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const acknowledgeAlarm = {
  id: 'acknowledgeAlarm',
  summary: 'Says that somebody has seen to it; it stays until its cause is gone.',
  method: 'POST',
  path: '/api/v1/alarms/{id}/acknowledgement',
  params: ById,
  result: Alarm,
  status: 200,
  access: 'operator',
} as const satisfies ManagerOperation;

export const getWebhook = {
  id: 'getWebhook',
  summary: 'Where alarms are sent to, without its secret.',
  method: 'GET',
  path: '/api/v1/webhook',
  result: Type.Object({ webhook: Type.Union([Webhook, Type.Null()]) }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;
export const putWebhook = {
  id: 'putWebhook',
  summary: 'Sends alarms to a URL, signed with a secret, which is made and shown once where none is given.',
  method: 'PUT',
  path: '/api/v1/webhook',
  body: Type.Object(
    {
      url: Type.String({
        maxLength: 1000,
        pattern: '^https?://[^\\s]+$',
        description: 'an http or https URL',
      }),
      secret: Type.Optional(
        Type.String({ minLength: 16, maxLength: 256, description: 'a secret of 16 to 256 characters' }),
      ),
    },
    strict,
  ),
  result: Type.Object({ webhook: Webhook, secret: Type.Union([Line, Type.Null()]) }, strict),
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;
export const deleteWebhook = {
  id: 'deleteWebhook',
  summary: 'Sends alarms nowhere.',
  method: 'DELETE',
  path: '/api/v1/webhook',
  result: Type.Unknown(),
  status: 204,
  access: 'administrator',
} as const satisfies ManagerOperation;
export const testWebhook = {
  id: 'testWebhook',
  summary: 'Sends one request to the webhook now and says what came back.',
  method: 'POST',
  path: '/api/v1/webhook/test',
  result: Type.Object({ delivered: Type.Boolean(), answer: Text }, strict),
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const ALARM_OPERATIONS = [
  listAlarms,
  getAlarm,
  acknowledgeAlarm,
  getWebhook,
  putWebhook,
  deleteWebhook,
  testWebhook,
] as const satisfies readonly ManagerOperation[];
