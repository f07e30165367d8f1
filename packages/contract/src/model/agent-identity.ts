import Type, { type Static } from 'typebox';
import { Count, Pin } from './primitives.ts';

/** The agent's keys for the channel: the one in use, and the announced next one. */
export const AgentIdentity = Type.Object(
  { current: Pin, next: Type.Union([Pin, Type.Null()]), previous: Type.Union([Pin, Type.Null()]) },
  { additionalProperties: false },
);
export type AgentIdentity = Static<typeof AgentIdentity>;

/** The managers that an agent obeys. (epoch, number) only ever grows. */
export const ManagerPins = Type.Object(
  { epoch: Count, number: Count, pins: Type.Array(Pin, { minItems: 1, maxItems: 16, uniqueItems: true }) },
  { additionalProperties: false },
);
export type ManagerPins = Static<typeof ManagerPins>;
