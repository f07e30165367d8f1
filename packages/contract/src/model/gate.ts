import Type, { type Static } from 'typebox';
import { Text } from './primitives.ts';

const strict = { additionalProperties: false };

export const Gate = Type.Union([
  /** Our certificates are served in place of those found. */
  Type.Literal('serve'),
  /** VNC of VMs started from then on demands TLS, and their SPICE has a port with TLS. */
  Type.Literal('vnc-tls'),
  /** Plain TCP of libvirtd goes away. */
  Type.Literal('plain-tcp-off'),
  /** The CA that was found is trusted no longer. */
  Type.Literal('retire-found-ca'),
]);
export type Gate = Static<typeof Gate>;

/** A step of adoption that takes something away from somebody: open, waiting for a request, and what speaks against it. */
export const GateState = Type.Object(
  {
    gate: Gate,
    state: Type.Union([Type.Literal('not-needed'), Type.Literal('waiting'), Type.Literal('granted')]),
    blockers: Type.Array(Text, { maxItems: 256 }),
  },
  strict,
);
export type GateState = Static<typeof GateState>;
