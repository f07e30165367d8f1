import Type, { type Static } from 'typebox';
import { PreparedVm } from './migration.ts';
import { MigrationMode } from './migration-options.ts';
import { Address, Name, Pin, Port, Time, Uuid, VmName } from './primitives.ts';

const strict = { additionalProperties: false };

/** The TCP port of an agent's door for other agents, open as long as there is a grant; 16516 and 16517 are a manager's, which may run on a host. */
export const PEER_PORT = 16518;

/** The TCP ports of which the relay of a migration in mode `pinned` takes one, both included. */
export const RELAY_PORTS = { min: 16520, max: 16583 } as const;

/** What one agent may ask of another under a grant; `rpc`, `stream` and `disks` are streams of mode `pinned`. */
export const GrantedOperation = Type.Union([
  Type.Literal('preflight'),
  Type.Literal('create'),
  Type.Literal('status'),
  Type.Literal('rpc'),
  Type.Literal('stream'),
  Type.Literal('disks'),
]);
export type GrantedOperation = Static<typeof GrantedOperation>;

/**
 * A manager's permission for two agents to talk for one migration, as one of the two gets it: both always verify each
 * other's pin (one-way authentication there is none).
 */
export const Grant = Type.Object(
  {
    /** Of the migration, or of the preflight. */
    id: Uuid,
    /** What the host that gets it is in this migration. */
    role: Type.Union([Type.Literal('source'), Type.Literal('destination')]),
    mode: MigrationMode,
    /** What the peer may ask of the host that gets it. */
    operations: Type.Array(GrantedOperation, { maxItems: 6 }),
    peer: Type.Object(
      {
        name: Name,
        /** Its current key and its standby. */
        pins: Type.Array(Pin, { minItems: 1, maxItems: 4 }),
        /** Whence its connections come; others are refused before the handshake. */
        addresses: Type.Array(Address, { minItems: 1, maxItems: 64 }),
        /** Where it is reached, best first, and its peer door's port. */
        reachedAt: Type.Array(Address, { minItems: 1, maxItems: 16 }),
        port: Port,
      },
      strict,
    ),
    /** The VM and its XML; null in a grant for a preflight without a VM. */
    vm: Type.Union([Type.Object({ name: VmName, ...PreparedVm.properties }, strict), Type.Null()]),
    /** Libvirt's flags that a migration under it may have, in mode `pinned`. */
    flags: Type.Integer({ minimum: 0, maximum: 0x7fff_ffff }),
    /** Streams of QEMU's at once, in mode `pinned`. */
    streams: Type.Integer({ minimum: 1, maximum: 128 }),
    /** Nothing begins after it; what has begun goes on, and how it does may be asked until it is over. */
    notAfter: Time,
  },
  strict,
);
export type Grant = Static<typeof Grant>;

/** A grant as an agent reports it. */
export const GrantState = Type.Object(
  {
    id: Uuid,
    /** The peer door's port, open as long as there is a grant. */
    port: Port,
    notAfter: Time,
  },
  strict,
);
export type GrantState = Static<typeof GrantState>;
