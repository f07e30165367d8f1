import Type, { type Static } from 'typebox';
import { Line, Text, Uuid } from './primitives.ts';

const strict = { additionalProperties: false };

export const SettingScope = Type.Union([
  Type.Literal('global'),
  Type.Literal('cluster'),
  Type.Literal('host'),
]);
export type SettingScope = Static<typeof SettingScope>;

/** Of any form that some setting has; the setting itself says of a number whether it may be one. */
export const SettingValue = Type.Union([
  Type.Boolean(),
  Type.Number(),
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
    /** `boolean`, `integer`, `text`, `list` or `duration`. */
    type: Line,
    /** Where it may be set. */
    scopes: Type.Array(SettingScope, { maxItems: 3 }),
    /** Every place that was looked at, the most specific first, with what is set there; the first that is set wins. */
    chain: Type.Array(
      Type.Object(
        {
          scope: Type.Union([Type.Literal('default'), SettingScope]),
          /** The cluster or host; empty for the others. */
          target: Line,
          value: Type.Union([SettingValue, Type.Null()]),
          wins: Type.Boolean(),
        },
        strict,
      ),
      { maxItems: 4 },
    ),
  },
  strict,
);
export type Setting = Static<typeof Setting>;

/** A setting that was set or taken back: what holds now, and what comes of it. */
export const SettingChange = Type.Object(
  {
    ...Setting.properties,
    /** What whoever set it should know: that no host is in that cluster, say. */
    warnings: Type.Array(Text, { maxItems: 16 }),
    /** The jobs that bring it to hosts, where it does not wait for their next provisioning. */
    jobs: Type.Array(Uuid, { maxItems: 100_000 }),
  },
  strict,
);
export type SettingChange = Static<typeof SettingChange>;
