import Type, { type Static } from 'typebox';
import { Count, Line, Text, Time } from './primitives.ts';

const strict = { additionalProperties: false };

export const AuditEntry = Type.Object(
  {
    sequence: Count,
    at: Time,
    actor: Line,
    action: Line,
    subject: Line,
    outcome: Type.Union([
      Type.Literal('intent'),
      Type.Literal('done'),
      Type.Literal('refused'),
      Type.Literal('failed'),
    ]),
    detail: Text,
    hash: Line,
  },
  strict,
);
export type AuditEntry = Static<typeof AuditEntry>;
