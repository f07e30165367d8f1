import Type, { type Static } from 'typebox';
import { Address, Name, Time } from './primitives.ts';

/** A host without an agent: known by an administrator's word alone, secured by nothing. */
export const UnmanagedHost = Type.Object(
  { name: Name, cluster: Name, address: Address, addedAt: Time },
  { additionalProperties: false },
);
export type UnmanagedHost = Static<typeof UnmanagedHost>;
