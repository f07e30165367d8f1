import Type, { type Static } from 'typebox';
import { Address, Line, Port, Time } from './primitives.ts';

const strict = { additionalProperties: false };

/** A listener that was seen, with where it listens and the port. */
const Listener = Type.Object(
  { addresses: Type.Array(Type.Union([Address, Line]), { maxItems: 64 }), port: Port },
  strict,
);

/**
 * What a host can do in a migration, as its agent saw it in sockets, configuration and files; a host that has not
 * reported it counts as not secured.
 */
export const HostCapabilities = Type.Object(
  {
    at: Time,
    libvirtVersion: Type.Union([Line, Type.Null()]),
    qemuVersion: Type.Union([Line, Type.Null()]),
    /** libvirt's listener for TLS; null where nobody listens. */
    libvirtTls: Type.Union([Listener, Type.Null()]),
    /** libvirt's listener for plain TCP with its authentication, `auth_tcp`; null where nobody listens. */
    libvirtTcp: Type.Union([
      Type.Object({ ...Listener.properties, authentication: Line }, strict),
      Type.Null(),
    ]),
    /** QEMU's certificates for migrations are in place, readable for QEMU and within their dates. */
    nativeTls: Type.Boolean(),
    /** Why it has none, for people; empty where it has. */
    nativeTlsLacks: Line,
    /** `migrate_tls_force`: refuses every migration without native TLS, also one over Unix sockets. */
    migrateTlsForce: Type.Boolean(),
    /** Whether the agent takes part in mode `pinned` (it manages, libvirt's socket answers), and its peer door's port. */
    pinned: Type.Boolean(),
    peerPort: Port,
    /** Versions of the peer API that the agent speaks. */
    peerVersions: Type.Array(Type.Integer({ minimum: 1, maximum: 1000 }), { maxItems: 16 }),
    /** Whether daemons are reloaded or restarted only after a running migration, as of now. */
    reloadWaits: Type.Array(Line, { maxItems: 16 }),
  },
  strict,
);
export type HostCapabilities = Static<typeof HostCapabilities>;
