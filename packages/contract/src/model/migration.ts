import Type, { type Static } from 'typebox';
import { CrlPem } from './crl.ts';
import { MigrationMode, MigrationOptions, MigrationProgress, MigrationWish } from './migration-options.ts';
import {
  Address,
  Count,
  DnsName,
  InterfaceName,
  Line,
  Name,
  Pem,
  Pin,
  Port,
  SerialHex,
  Text,
  Uuid,
  VM_NAME,
  VmName,
} from './primitives.ts';

const strict = { additionalProperties: false };

/** How the agent that conducts a migration reaches one host's libvirt. */
export const LibvirtAccess = Type.Union([
  /** Its own host's, over the Unix socket. */
  Type.Object({ kind: Type.Literal('local') }, strict),
  /** `qemu+tls://ADDRESS/system`, with the client certificate of this migration. */
  Type.Object({ kind: Type.Literal('tls'), address: Address, port: Port }, strict),
  /** `qemu+tcp://ADDRESS/system`. */
  Type.Object({ kind: Type.Literal('tcp'), address: Address, port: Port }, strict),
  /** Through the agent there, which lets only the RPC of this migration through: mode `pinned`. */
  Type.Object({ kind: Type.Literal('peer') }, strict),
]);
export type LibvirtAccess = Static<typeof LibvirtAccess>;

/** What an agent is asked to conduct: the source's, or the destination's where the source has none. */
export const MigrationOrder = Type.Object(
  {
    id: Uuid,
    vm: VmName,
    mode: MigrationMode,
    /** Names of the hosts, for what is said to people. */
    from: Name,
    to: Name,
    source: LibvirtAccess,
    destination: LibvirtAccess,
    /** Whether the other host's agent takes part, under the grant of the same id. */
    peerAgent: Type.Boolean(),
    /** QEMU's stream in modes `tls` and `plain`; null in mode `pinned`, where it runs over a Unix socket. */
    stream: Type.Union([
      Type.Object(
        {
          address: Address,
          /** Where the destination's QEMU listens for it; null where libvirt there decides. */
          listenAddress: Type.Union([Address, Type.Null()]),
          /** The name that the source's QEMU verifies, where its certificate lacks the address; else null. */
          tlsDestination: Type.Union([DnsName, Type.Null()]),
        },
        strict,
      ),
      Type.Null(),
    ]),
    /** In mode `tls`; else null. */
    tls: Type.Union([
      Type.Object(
        {
          /** Of the certificate that the destination's QEMU serves: the source refuses it where its own CRL names it. */
          migrationSerialNumber: SerialHex,
          /** Trust for the destination's libvirtd: what its certificate chains to. */
          controlBundle: Pem,
          /** The control authority's CRL. */
          controlCrl: Type.Union([CrlPem, Type.Null()]),
          subject: Type.Object({ commonName: Line, organization: Line }, strict),
        },
        strict,
      ),
      Type.Null(),
    ]),
    options: MigrationOptions,
    /** How long the truth is looked for where the hosts lost each other at the end, before an operator is needed. */
    doubtSeconds: Type.Integer({ minimum: 1, maximum: 86_400 }),
  },
  strict,
);
export type MigrationOrder = Static<typeof MigrationOrder>;

/** What was seen to carry the migration. */
const MigrationProof = Type.Object(
  {
    /** QEMU's `tls-creds` migration parameter on the source while the stream ran; empty where it has none or was not caught. */
    tlsCreds: Line,
    tlsHostname: Line,
    /** The stream's TCP connection, as the source's kernel showed it; absent where it was not caught. */
    connection: Type.Optional(
      Type.Object(
        { from: Address, to: Address, interface: Type.Union([InterfaceName, Type.Null()]) },
        strict,
      ),
    ),
    /** Mode `pinned`: the key at the other end, the key exchange and how many streams there were. */
    channel: Type.Optional(Type.Object({ peerPin: Pin, group: Line, streams: Count }, strict)),
  },
  strict,
);

export const MigrationPhase = Type.Union([
  Type.Literal('requested'),
  Type.Literal('running'),
  Type.Literal('done'),
  Type.Literal('failed'),
  Type.Literal('cancelled'),
  /** Nobody can know where the VM may run: it is paused, and a person decides. */
  Type.Literal('operator-needed'),
]);
export type MigrationPhase = Static<typeof MigrationPhase>;

/** The phase of libvirt's protocol (`virDomainMigrateVersion3Full`) in which it is or failed. */
export const MigrationStep = Type.Union([
  Type.Literal('connect'),
  Type.Literal('begin'),
  Type.Literal('prepare'),
  Type.Literal('perform'),
  Type.Literal('finish'),
  Type.Literal('confirm'),
]);
export type MigrationStep = Static<typeof MigrationStep>;

/** Where a VM is after a migration ended, as both hosts were asked; `unknown` only with `operator-needed`. */
const RunsOn = Type.Union([
  Type.Literal('source'),
  Type.Literal('destination'),
  Type.Literal('neither'),
  Type.Literal('unknown'),
]);

export const MigrationStatus = Type.Object(
  {
    id: Uuid,
    vm: VmName,
    mode: MigrationMode,
    phase: MigrationPhase,
    step: Type.Union([MigrationStep, Type.Null()]),
    /** Null until it is over. */
    runsOn: Type.Union([RunsOn, Type.Null()]),
    progress: Type.Union([MigrationProgress, Type.Null()]),
    proof: Type.Union([MigrationProof, Type.Null()]),
    /** libvirt's error in full. */
    error: Type.Union([Type.Object({ message: Text, hint: Text }, strict), Type.Null()]),
  },
  strict,
);
export type MigrationStatus = Static<typeof MigrationStatus>;

/** The VM as the conducting agent found it when it was asked to prepare. */
export const PreparedVm = Type.Object(
  {
    uuid: Uuid,
    /** SHA-256, in hexadecimal, of its migratable XML, and of its persistent definition where that goes along. */
    xmlSha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    persistentXmlSha256: Type.Union([Type.String({ pattern: '^[0-9a-f]{64}$' }), Type.Null()]),
    /** Targets of the disks that are copied. */
    copiedDisks: Type.Array(Line, { maxItems: 64 }),
  },
  strict,
);
export type PreparedVm = Static<typeof PreparedVm>;

/** What an operator asks for. */
export const MigrateVm = Type.Object(
  {
    vm: Type.String({
      pattern: VM_NAME,
      maxLength: 255,
      description:
        'the name of a VM, or its UUID: no control characters or slashes, and no dash at the beginning',
    }),
    from: Name,
    to: Name,
    /** In this order, in place of that of the setting migration.mode; what the setting of either host leaves out is not taken. */
    mode: Type.Optional(Type.Array(MigrationMode, { minItems: 1, maxItems: 3, uniqueItems: true })),
    /** In spite of findings that say that it would fail; never in spite of what makes it unsafe. */
    force: Type.Optional(Type.Boolean()),
    ...MigrationWish.properties,
  },
  strict,
);
export type MigrateVm = Static<typeof MigrateVm>;

/** `virt-trust migrate --all --from A`. */
export const EvacuateHost = Type.Object(
  {
    /** Where to; the managed hosts of the cluster where left out, those with fewest VMs first. */
    to: Type.Optional(Type.Array(Name, { minItems: 1, maxItems: 256 })),
    mode: Type.Optional(Type.Array(MigrationMode, { minItems: 1, maxItems: 3, uniqueItems: true })),
    /** Migrations at once; as the setting migration.concurrency has it where left out. */
    concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 64 })),
    ...MigrationWish.properties,
  },
  strict,
);
export type EvacuateHost = Static<typeof EvacuateHost>;
