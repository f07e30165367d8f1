import Type, { type Static } from 'typebox';
import { Name, Time, Uuid } from './primitives.ts';

const strict = { additionalProperties: false };

export const Role = Type.Union([
  Type.Literal('administrator'),
  Type.Literal('operator'),
  Type.Literal('auditor'),
]);
export type Role = Static<typeof Role>;

export const Token = Type.Object(
  { id: Uuid, name: Name, role: Role, createdAt: Time, lastUsedAt: Type.Union([Time, Type.Null()]) },
  strict,
);
export type Token = Static<typeof Token>;
