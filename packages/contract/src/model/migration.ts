import Type, { type Static } from 'typebox';
import { CrlPem } from './crl.ts';
import {
  Address,
  Count,
  DnsName,
  InterfaceName,
  Line,
  Name,
  Pem,
  SerialHex,
  Text,
  Uuid,
  VmName,
} from './primitives.ts';

const strict = { additionalProperties: false };

/** What the source host's agent is asked to do. */
export const MigrationOrder = Type.Object(
  {
    id: Uuid,
    vm: VmName,
    mode: Type.Literal('tls'),
    destination: Type.Object(
      {
        /** Of the libvirt connection, `qemu+tls://ADDRESS/system`. */
        libvirtAddress: Address,
        /** Of QEMU's stream. */
        migrationAddress: Address,
        /** Where the destination's QEMU listens for it; null where libvirt there decides. */
        listenAddress: Type.Union([Address, Type.Null()]),
        /** The name that the source's QEMU verifies, where its certificate lacks the address; else null. */
        tlsDestination: Type.Union([DnsName, Type.Null()]),
        /** Of the certificate that its QEMU serves: the source refuses it where its own CRL names it. */
        migrationSerialNumber: SerialHex,
      },
      strict,
    ),
    /** Trust for the destination's libvirtd: what its certificate chains to. */
    controlBundle: Pem,
    /** The control authority's CRL: goes beside the bundle, so that libvirt's client refuses a revoked destination. */
    controlCrl: Type.Union([CrlPem, Type.Null()]),
    subject: Type.Object({ commonName: Line, organization: Line }, strict),
    bandwidthMiB: Type.Union([Count, Type.Null()]),
  },
  strict,
);
export type MigrationOrder = Static<typeof MigrationOrder>;

export const MigrationProgress = Type.Object(
  {
    /** 0 to 100. */
    percent: Type.Number({ minimum: 0, maximum: 100 }),
    processedBytes: Count,
    remainingBytes: Count,
    totalBytes: Count,
    bytesPerSecond: Count,
  },
  strict,
);
export type MigrationProgress = Static<typeof MigrationProgress>;

/** What was seen to carry the migration. */
const MigrationTlsProof = Type.Object(
  {
    /** QEMU's `tls-creds` migration parameter on the source while the stream ran; empty where it was not caught. */
    tlsCreds: Line,
    tlsHostname: Line,
    /** The stream's TCP connection, as the source's kernel showed it; absent where it was not caught. */
    connection: Type.Optional(
      Type.Object(
        { from: Address, to: Address, interface: Type.Union([InterfaceName, Type.Null()]) },
        strict,
      ),
    ),
  },
  strict,
);

export const MigrationStatus = Type.Object(
  {
    id: Uuid,
    vm: VmName,
    phase: Type.Union([
      Type.Literal('requested'),
      Type.Literal('running'),
      Type.Literal('done'),
      Type.Literal('failed'),
      Type.Literal('cancelled'),
    ]),
    progress: Type.Union([MigrationProgress, Type.Null()]),
    proof: Type.Union([MigrationTlsProof, Type.Null()]),
    /** libvirt's error in full. */
    error: Type.Union([Type.Object({ message: Text, hint: Text }, strict), Type.Null()]),
  },
  strict,
);
export type MigrationStatus = Static<typeof MigrationStatus>;

/** What an operator asks for. */
export const MigrateVm = Type.Object(
  {
    vm: VmName,
    from: Name,
    to: Name,
    bandwidthMiB: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
  },
  strict,
);
export type MigrateVm = Static<typeof MigrateVm>;
