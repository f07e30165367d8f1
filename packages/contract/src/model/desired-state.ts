import Type, { type Static } from 'typebox';
import { Address, Count, DnsName, InterfaceName, Line, Pem, Port } from './primitives.ts';
import { KeyAlgorithm, Service } from './service.ts';

const strict = { additionalProperties: false };

export const SubjectAltNames = Type.Object(
  { dns: Type.Array(DnsName, { maxItems: 32 }), addresses: Type.Array(Address, { maxItems: 64 }) },
  strict,
);
export type SubjectAltNames = Static<typeof SubjectAltNames>;

/** A service on an interface: where clients reach it. */
export const Endpoint = Type.Object(
  { service: Service, interface: InterfaceName, names: SubjectAltNames },
  strict,
);
export type Endpoint = Static<typeof Endpoint>;

/** What one service of a host shall serve and trust. */
export const DesiredCredential = Type.Object(
  {
    service: Service,
    endpoints: Type.Array(Endpoint, { maxItems: 64 }),
    /**
     * `ours`: a key made on the host and a certificate from the purpose's authority.
     * `found`: go on serving what was found on the host, and trust both CAs (adoption before the gate `serve`).
     */
    identity: Type.Union([Type.Literal('ours'), Type.Literal('found')]),
    subject: Type.Object({ commonName: Line, organization: Line }, strict),
    /** The names of all its endpoints. */
    names: SubjectAltNames,
    keyAlgorithm: KeyAlgorithm,
    /** Raised to have a new key and certificate made although nothing else changed. */
    revision: Count,
    /** Our authority's certificates, issuing CA first. */
    bundle: Pem,
    /** Whether the CA that was found stays trusted beside ours, until the gate `retire-found-ca`. */
    keepFoundTrust: Type.Boolean(),
  },
  strict,
);
export type DesiredCredential = Static<typeof DesiredCredential>;

/** How the manager wants a host besides its credentials: what settings, gates and interfaces say of it. */
export const DesiredSettings = Type.Object(
  {
    /**
     * `off` gives the host back what was found on it, TLS of ours nowhere, and leaves the agent (kvm.libvirtd.tls.enabled);
     * there are no credentials then.
     */
    tls: Type.Union([Type.Literal('on'), Type.Literal('off')]),
    /** How long a reload or restart that a running migration would feel waits for its end at most. */
    migrationWaitSeconds: Type.Integer({ minimum: 0, maximum: 604_800 }),
    /** `off` takes plain TCP away (gate `plain-tcp-off`); `keep` leaves it as it was found. */
    plainTcp: Type.Union([Type.Literal('keep'), Type.Literal('off')]),
    /** `on` sets vnc_tls; `keep` leaves it as it was found (gate `vnc-tls`). */
    vncTls: Type.Union([Type.Literal('keep'), Type.Literal('on')]),
    /** `on` sets spice_tls; `keep` leaves it as it was found (gate `vnc-tls`). */
    spiceTls: Type.Union([Type.Literal('keep'), Type.Literal('on')]),
    /** Seconds between looks at what every endpoint serves. */
    probeSeconds: Type.Integer({ minimum: 1, maximum: 86_400 }),
    /** `force` sets migrate_tls_force = 1 (migration mode `tls` alone). */
    migrateTls: Type.Union([Type.Literal('allow'), Type.Literal('force')]),
    /** Added to `tls_allowed_dn_list` where the host has one, so that virt-trust's own short-lived clients pass. */
    clientDns: Type.Array(Line, { maxItems: 16 }),
    /** What a source is told of where to send a VM, `migration_host`; null where it is as it was found. */
    migrationHost: Type.Union([DnsName, Address, Type.Null()]),
    /**
     * Where displays of VMs that say nothing themselves listen: as it was found, or on all addresses, which asks every
     * client for a password that nobody has until one is made for a visit; and for a certificate, which VNC alone can.
     */
    consoles: Type.Union([
      Type.Literal('keep'),
      Type.Literal('with-certificate'),
      Type.Literal('with-password'),
    ]),
    /** Where the agent makes itself known when no manager has come to it for a while. */
    announceTo: Type.Array(Type.Object({ address: Address, port: Port }, strict), { maxItems: 32 }),
  },
  strict,
);

export type DesiredSettings = Static<typeof DesiredSettings>;

/** What the manager wants of a host. (epoch, number) only ever grows; agents refuse anything older. */
export const DesiredState = Type.Object(
  {
    epoch: Count,
    number: Count,
    credentials: Type.Array(DesiredCredential, { maxItems: 16 }),
    settings: DesiredSettings,
  },
  strict,
);
export type DesiredState = Static<typeof DesiredState>;
