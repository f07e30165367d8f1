import Type, { type Static } from 'typebox';
import { HostCapabilities } from './capabilities.ts';
import { CrlPem } from './crl.ts';
import { MigrationMode, MigrationOptions } from './migration-options.ts';
import {
  Address,
  Count,
  DnsName,
  Line,
  Name,
  Pem,
  Pin,
  Port,
  SerialHex,
  Text,
  Time,
  Uuid,
  VmName,
} from './primitives.ts';

const strict = { additionalProperties: false };

/** Something that was found wrong, or worth knowing, before a migration. */
export const Finding = Type.Object(
  {
    /** `area.condition`, such as `name.mismatch`. */
    code: Type.String({ pattern: '^[a-z]+\\.[a-z_]+$' }),
    /** `error`: the migration would fail; `unsafe`: it must not be, whatever is forced. */
    severity: Type.Union([
      Type.Literal('note'),
      Type.Literal('warning'),
      Type.Literal('error'),
      Type.Literal('unsafe'),
    ]),
    /** The host that it is about; null for the pair. */
    host: Type.Union([Name, Type.Null()]),
    /** What would fail, and how to mend it. */
    what: Text,
    fix: Text,
  },
  strict,
);
export type Finding = Static<typeof Finding>;

/** A handshake that was really made, and what was served in it. */
export const PreflightHandshake = Type.Object(
  {
    service: Type.Union([Type.Literal('libvirt'), Type.Literal('migration'), Type.Literal('peer')]),
    from: Name,
    to: Name,
    /** Address and port. */
    target: Line,
    /** The name that was verified. */
    verified: Line,
    outcome: Type.Union([Type.Literal('good'), Type.Literal('refused'), Type.Literal('unreachable')]),
    servedPin: Type.Union([Pin, Type.Null()]),
    serialNumber: Type.Union([SerialHex, Type.Null()]),
    notAfter: Type.Union([Time, Type.Null()]),
    detail: Text,
  },
  strict,
);
export type PreflightHandshake = Static<typeof PreflightHandshake>;

/** The VM's disks by target: what the guest sees, and what there is of it. */
const DiskSizes = Type.Array(
  Type.Object({ target: Line, capacityBytes: Count, allocatedBytes: Count }, strict),
  { maxItems: 256 },
);

/** One side of the pair, as an agent is asked to check it. */
export const PreflightOrder = Type.Object(
  {
    id: Uuid,
    /** What the asked host is. */
    role: Type.Union([Type.Literal('source'), Type.Literal('destination')]),
    mode: MigrationMode,
    own: Name,
    peer: Name,
    /** Whether the peer has an agent that takes part, under the grant of the same id. */
    hasPeerAgent: Type.Boolean(),
    /** Where the destination's libvirt and QEMU are reached, and the name verified of QEMU where not the address. */
    destination: Type.Object(
      {
        libvirtAddress: Address,
        libvirtPort: Port,
        streamAddress: Address,
        tlsDestination: Type.Union([DnsName, Type.Null()]),
      },
      strict,
    ),
    /** Where the source is reached, for the handshakes back. */
    sourceAddress: Type.Union([Address, Type.Null()]),
    /** Trust for libvirt of the peer, and what the peer must trust in our client: the control authority's certificates and CRL. */
    controlBundle: Type.Union([Pem, Type.Null()]),
    controlCrl: Type.Union([CrlPem, Type.Null()]),
    /** The DN under which the client of a migration would come, in mode `tls`. */
    clientDn: Type.Union([Line, Type.Null()]),
    /** Whether real handshakes are made. */
    handshakes: Type.Boolean(),
    vm: Type.Union([VmName, Type.Null()]),
    /** Of the destination: the VM's XML as the source gave it. */
    vmXml: Type.Union([Type.String({ maxLength: 1_000_000 }), Type.Null()]),
    /** Of the destination: the VM's disks as the source measured them. */
    disks: DiskSizes,
    options: MigrationOptions,
  },
  strict,
);
export type PreflightOrder = Static<typeof PreflightOrder>;

/** What an agent found out. */
export const PreflightReport = Type.Object(
  {
    now: Time,
    capabilities: Type.Union([HostCapabilities, Type.Null()]),
    hostUuid: Line,
    /** Of the source: the VM as it would be migrated; null where none was asked for, or it is not there. */
    vm: Type.Union([
      Type.Object(
        { uuid: Uuid, state: Line, xml: Type.String({ maxLength: 1_000_000 }), disks: DiskSizes },
        strict,
      ),
      Type.Null(),
    ]),
    handshakes: Type.Array(PreflightHandshake, { maxItems: 64 }),
    findings: Type.Array(Finding, { maxItems: 256 }),
  },
  strict,
);
export type PreflightReport = Static<typeof PreflightReport>;

/** A server with QEMU's own TLS code and the host's very files, for one handshake of the peer's. */
export const HandshakeServer = Type.Object({ address: Address, port: Port, validSeconds: Count }, strict);
export type HandshakeServer = Static<typeof HandshakeServer>;
