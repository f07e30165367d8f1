import Type, { type Static } from 'typebox';
import { Count, Line, Text, Time } from './primitives.ts';

const strict = { additionalProperties: false };

export const ManagerEvent = Type.Object(
  { sequence: Count, at: Time, kind: Line, subject: Line, message: Text },
  strict,
);
export type ManagerEvent = Static<typeof ManagerEvent>;
