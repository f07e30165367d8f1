import Type, { type Static } from 'typebox';
import { Line, Text } from './primitives.ts';

const strict = { additionalProperties: false };

export const SettingScope = Type.Union([
  Type.Literal('global'),
  Type.Literal('cluster'),
  Type.Literal('host'),
]);
export type SettingScope = Static<typeof SettingScope>;

export const SettingValue = Type.Union([
  Type.Boolean(),
  Type.Integer(),
  Type.String({ maxLength: 1024 }),
  Type.Array(Type.String({ maxLength: 256 }), { maxItems: 64 }),
]);
export type SettingValue = Static<typeof SettingValue>;

/** A setting with its effective value, and where that comes from. */
export const Setting = Type.Object(
  {
    name: Line,
    value: SettingValue,
    default: SettingValue,
    from: Type.Union([Type.Literal('default'), SettingScope]),
    description: Text,
  },
  strict,
);
export type Setting = Static<typeof Setting>;
