import Type, { type Static } from 'typebox';
import { Endpoint, SubjectAltNames } from './desired-state.ts';
import { Inventory } from './inventory.ts';
import { MigrationProgress, MigrationStatus } from './migration.ts';
import { ObservedState } from './observed-state.ts';
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
  Time,
  Uuid,
  VmName,
} from './primitives.ts';
import { Purpose, Service } from './service.ts';

const strict = { additionalProperties: false };

const JUMP = '(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9\\[][A-Za-z0-9._:\\[\\]-]*';
// SECURITY: ssh gives the hosts of ProxyJump to a shell, so no character means anything there.
const SSH_OPTION_PATTERN = `^(?:ProxyJump=${JUMP}(?:,${JUMP})*|User=[A-Za-z0-9_][A-Za-z0-9_.-]*|(?:Port|ConnectTimeout)=[0-9]{1,5}|IdentitiesOnly=(?:yes|no)|IdentityAgent=/[A-Za-z0-9._/-]+)$`;

/** Where and how the system's OpenSSH client reaches a host. */
export const SshTarget = Type.Object(
  {
    /** `user@host` or `host`, as ssh takes it; never beginning with a dash. */
    destination: Type.String({
      pattern: '^(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}@)?[A-Za-z0-9\\[:][A-Za-z0-9._:\\[\\]%-]{0,252}$',
      maxLength: 290,
      description: 'HOST or USER@HOST as ssh takes it',
    }),
    port: Type.Optional(Port),
    /** A private key file on the manager's machine. */
    identityFile: Type.Optional(
      Type.String({
        maxLength: 4096,
        pattern: '^/[^\\u0000-\\u001f\\u007f]*$',
        description: 'an absolute path',
      }),
    ),
    /** More ssh_config lines, such as `ProxyJump=bastion`. */
    options: Type.Optional(
      Type.Array(
        Type.String({
          maxLength: 512,
          pattern: SSH_OPTION_PATTERN,
          description:
            'ProxyJump=, User=, Port=, ConnectTimeout=, IdentitiesOnly= or IdentityAgent= with a plain value; anything else goes into the ssh_config of the user that the manager runs as',
        }),
        { maxItems: 16 },
      ),
    ),
  },
  strict,
);
export type SshTarget = Static<typeof SshTarget>;

/** `SHA256:` and unpadded base64, as ssh-keygen prints it. */
const SshFingerprint = Type.String({ pattern: '^SHA256:[A-Za-z0-9+/]{43}$', maxLength: 50 });

export const SshHostKey = Type.Object({ algorithm: Line, fingerprint: SshFingerprint }, strict);
export type SshHostKey = Static<typeof SshHostKey>;

export const Gate = Type.Union([
  /** Our certificates are served in place of those found. */
  Type.Literal('serve'),
  /** VNC of VMs started from then on demands TLS. */
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

export const HostState = Type.Union([
  Type.Literal('enrolling'),
  Type.Literal('observed'),
  Type.Literal('provisioning'),
  Type.Literal('secured'),
  Type.Literal('failed'),
  Type.Literal('removing'),
]);
export type HostState = Static<typeof HostState>;

export const HostSummary = Type.Object(
  {
    id: Uuid,
    name: Name,
    cluster: Name,
    ssh: Line,
    state: HostState,
    channel: Type.Union([Type.Literal('up'), Type.Literal('down')]),
    /** Why the channel is down or the host failed. */
    reason: Type.Union([Text, Type.Null()]),
    /** Key exchange group that the channel negotiated, such as X25519MLKEM768. */
    group: Type.Union([Line, Type.Null()]),
    services: Type.Array(
      Type.Object({ service: Service, phase: Line, notAfter: Type.Union([Time, Type.Null()]) }, strict),
      { maxItems: 16 },
    ),
  },
  strict,
);
export type HostSummary = Static<typeof HostSummary>;

export const HostDetail = Type.Object(
  {
    ...HostSummary.properties,
    agentPins: Type.Array(Pin, { maxItems: 16 }),
    declared: Type.Object(
      { interface: Type.Union([InterfaceName, Type.Null()]), names: SubjectAltNames },
      strict,
    ),
    endpoints: Type.Array(Endpoint, { maxItems: 64 }),
    gates: Type.Array(GateState, { maxItems: 16 }),
    inventory: Type.Union([Inventory, Type.Null()]),
    observed: Type.Union([ObservedState, Type.Null()]),
  },
  strict,
);
export type HostDetail = Static<typeof HostDetail>;

export const AddHost = Type.Object(
  {
    name: Name,
    ssh: SshTarget,
    fingerprint: Type.Optional(SshFingerprint),
    cluster: Type.Optional(Name),
    /** Deploy to look and report only. */
    observe: Type.Optional(Type.Boolean()),
    /** The management interface, where it is not the one with the address that ssh reaches. */
    interface: Type.Optional(InterfaceName),
    /** DNS names of the host besides its name. */
    names: Type.Optional(Type.Array(Name, { maxItems: 16 })),
    /** Where the channel is dialled, where it is not ssh's host. */
    channelAddress: Type.Optional(Type.Union([Name, Address])),
    channelPort: Type.Optional(Port),
    /** Addresses from which the manager's connections arrive at the host, besides the one that ssh comes from. */
    managerAddresses: Type.Optional(Type.Array(Address, { maxItems: 16 })),
  },
  strict,
);
export type AddHost = Static<typeof AddHost>;

export const JobState = Type.Union([
  Type.Literal('queued'),
  Type.Literal('running'),
  Type.Literal('done'),
  Type.Literal('failed'),
  Type.Literal('cancelled'),
]);
export type JobState = Static<typeof JobState>;

const JobStep = Type.Object(
  {
    name: Line,
    state: Type.Union([Type.Literal('running'), Type.Literal('done'), Type.Literal('failed')]),
    detail: Text,
    startedAt: Time,
    finishedAt: Type.Union([Time, Type.Null()]),
  },
  strict,
);

export const Job = Type.Object(
  {
    id: Uuid,
    kind: Type.Union([
      Type.Literal('host-add'),
      Type.Literal('host-provision'),
      Type.Literal('host-remove'),
      Type.Literal('host-gate'),
      Type.Literal('key-rollover'),
      Type.Literal('migrate'),
    ]),
    subject: Line,
    state: JobState,
    steps: Type.Array(JobStep, { maxItems: 256 }),
    progress: Type.Union([MigrationProgress, Type.Null()]),
    /** What came of it, for people. */
    result: Type.Union([Text, Type.Null()]),
    migration: Type.Union([MigrationStatus, Type.Null()]),
    error: Type.Union([
      Type.Object({ code: Line, message: Text, hint: Type.Union([Text, Type.Null()]) }, strict),
      Type.Null(),
    ]),
    createdAt: Time,
    finishedAt: Type.Union([Time, Type.Null()]),
  },
  strict,
);
export type Job = Static<typeof Job>;

export const Certificate = Type.Object(
  {
    serialNumber: SerialHex,
    /** `recorded` was to be signed and never was seen signed: the trace of an intent. */
    state: Type.Union([Type.Literal('recorded'), Type.Literal('issued')]),
    authority: Line,
    purpose: Purpose,
    profile: Line,
    host: Type.Union([Name, Type.Null()]),
    service: Type.Union([Service, Type.Null()]),
    subject: Line,
    names: SubjectAltNames,
    notBefore: Time,
    notAfter: Time,
    pin: Pin,
    pem: Type.Union([Pem, Type.Null()]),
  },
  strict,
);
export type Certificate = Static<typeof Certificate>;

export const Authority = Type.Object(
  {
    name: Name,
    purpose: Purpose,
    provider: Line,
    subject: Line,
    keyAlgorithm: Line,
    notAfter: Time,
    /** What its certificates may be for: names with all below them, and address ranges; empty for no bound. */
    constraints: Type.Object(
      { dns: Type.Array(DnsName, { maxItems: 64 }), subnets: Type.Array(Line, { maxItems: 64 }) },
      strict,
    ),
    bundle: Pem,
  },
  strict,
);
export type Authority = Static<typeof Authority>;

export const AuditEntry = Type.Object(
  {
    sequence: Count,
    at: Time,
    actor: Line,
    action: Line,
    subject: Line,
    outcome: Type.Union([
      Type.Literal('intent'),
      Type.Literal('done'),
      Type.Literal('refused'),
      Type.Literal('failed'),
    ]),
    detail: Text,
    hash: Line,
  },
  strict,
);
export type AuditEntry = Static<typeof AuditEntry>;

export const Role = Type.Union([
  Type.Literal('administrator'),
  Type.Literal('operator'),
  Type.Literal('auditor'),
]);
export type Role = Static<typeof Role>;

export const Token = Type.Object(
  { id: Uuid, name: Name, role: Role, createdAt: Time, lastUsedAt: Type.Union([Time, Type.Null()]) },
  strict,
);
export type Token = Static<typeof Token>;

export const SettingScope = Type.Union([
  Type.Literal('global'),
  Type.Literal('cluster'),
  Type.Literal('host'),
]);
export type SettingScope = Static<typeof SettingScope>;

export const SettingValue = Type.Union([
  Type.Boolean(),
  Type.Integer(),
  Type.String({ maxLength: 1024 }),
  Type.Array(Type.String({ maxLength: 256 }), { maxItems: 64 }),
]);
export type SettingValue = Static<typeof SettingValue>;

/** A setting with its effective value, and where that comes from. */
export const Setting = Type.Object(
  {
    name: Line,
    value: SettingValue,
    default: SettingValue,
    from: Type.Union([Type.Literal('default'), SettingScope]),
    description: Text,
  },
  strict,
);
export type Setting = Static<typeof Setting>;

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

/** A request for a certificate that a host's key signed, brought by an operator instead of the agent. */
export const IssueCertificate = Type.Object({ host: Name, service: Service, csr: Pem }, strict);
export type IssueCertificate = Static<typeof IssueCertificate>;

export const ManagerEvent = Type.Object(
  { sequence: Count, at: Time, kind: Line, subject: Line, message: Text },
  strict,
);
export type ManagerEvent = Static<typeof ManagerEvent>;
