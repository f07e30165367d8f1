import Type from 'typebox';
import { Name } from '../model/primitives.ts';
import { Setting, SettingChange, SettingValue } from '../model/setting.ts';
import { type ManagerOperation, Scope, strict } from './operation-parts.ts';

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
  body: Type.Object(
    {
      value: Type.Union([SettingValue, Type.Null()], {
        description:
          'true or false, a number, a text of at most 1024 characters, a list of at most 64 texts of 256, or null, which takes it back',
      }),
    },
    strict,
  ),
  result: SettingChange,
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const SETTING_OPERATIONS = [listSettings, putSetting] as const satisfies readonly ManagerOperation[];
