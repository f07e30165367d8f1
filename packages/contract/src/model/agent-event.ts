import Type, { type Static } from 'typebox';
import { Count, Line, Text, Time } from './primitives.ts';

/** One thing that happened on a host; the sequence is durable and has no gaps. */
export const AgentEvent = Type.Object(
  { sequence: Count, at: Time, kind: Line, subject: Line, message: Text },
  { additionalProperties: false },
);
export type AgentEvent = Static<typeof AgentEvent>;
