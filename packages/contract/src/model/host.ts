import Type, { type Static } from 'typebox';
import { Endpoint, SubjectAltNames } from './desired-state.ts';
import { GateState } from './gate.ts';
import { DeclaredInterface, RefusedName } from './interface.ts';
import { Inventory } from './inventory.ts';
import { MigrationMode } from './migration-options.ts';
import { ObservedState } from './observed-state.ts';
import { Address, Count, InterfaceName, Line, Name, Pin, Port, Text, Time, Uuid } from './primitives.ts';
import { Service } from './service.ts';
import { SettingScope } from './setting.ts';
import { SshFingerprint, SshTarget } from './ssh.ts';

const strict = { additionalProperties: false };

export const HostState = Type.Union([
  Type.Literal('enrolling'),
  Type.Literal('observed'),
  Type.Literal('provisioning'),
  /** Provisioned, and what it reported last is what it is to be. */
  Type.Literal('secured'),
  /**
   * Managed with its TLS switched off (kvm.libvirtd.tls.enabled): what was found on it is back. Or provisioned, and by its own
   * report it lacks what `security.missing` says.
   */
  Type.Literal('unsecured'),
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
    /** What it can do in migrations, of its own report; `reported` is false before the first, and then it can nothing. */
    security: Type.Object(
      {
        reported: Type.Boolean(),
        modes: Type.Array(MigrationMode, { maxItems: 3 }),
        /** What it lacks for `tls`, for people. */
        missing: Type.Array(Line, { maxItems: 16 }),
        /** What to type so that nothing is missing; empty where nothing is, or nothing that a command mends. */
        mend: Line,
        /** The setting kvm.libvirtd.tls.enabled as it holds for the host, and which scope says so. */
        tls: Type.Object(
          { enabled: Type.Boolean(), from: Type.Union([Type.Literal('default'), SettingScope]) },
          strict,
        ),
      },
      strict,
    ),
    /** Open alarms, acknowledged ones included. */
    alarms: Type.Object(
      /** `first`: what the worst and oldest of them says. */
      { warning: Count, critical: Count, first: Type.Union([Text, Type.Null()]) },
      strict,
    ),
  },
  strict,
);
export type HostSummary = Static<typeof HostSummary>;

/** Bringing a host its settings that failed, which is tried again. */
export const SettingsRetry = Type.Object(
  {
    /** How often in a row. */
    failures: Count,
    /** Why, the last time. */
    reason: Text,
    /** When it is tried again; a host that is away by then, once its channel is up. */
    at: Time,
  },
  strict,
);
export type SettingsRetry = Static<typeof SettingsRetry>;

export const HostDetail = Type.Object(
  {
    ...HostSummary.properties,
    /** Where the channel is dialled first: where it was up last, or the name that was given. */
    address: Type.Union([Name, Address]),
    /** Where the channel is up; null while it is down. */
    answersAt: Type.Union([Name, Address, Type.Null()]),
    agentPins: Type.Array(Pin, { maxItems: 16 }),
    declared: Type.Object(
      {
        /** The management interface, as it was accepted. */
        interface: Type.Union([InterfaceName, Type.Null()]),
        /** Of all its interfaces with a role, management first. */
        names: SubjectAltNames,
        interfaces: Type.Array(DeclaredInterface, { maxItems: 64 }),
        refused: Type.Array(RefusedName, { maxItems: 128 }),
      },
      strict,
    ),
    endpoints: Type.Array(Endpoint, { maxItems: 64 }),
    gates: Type.Array(GateState, { maxItems: 16 }),
    /** What of its settings it does not have yet, for people; it is brought there by itself. */
    settingsDue: Type.Array(Text, { maxItems: 32 }),
    /** Where that failed: why, and when it is tried again. */
    settingsRetry: Type.Union([SettingsRetry, Type.Null()]),
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

/** How a host is brought right. */
export const ProvisionHost = Type.Object(
  {
    renew: Type.Optional(Type.Boolean()),
    /** Kind of CA; the setting certificate.provider where left out. */
    provider: Type.Optional(Name),
    /** The setting provision.reconnect where left out. */
    reconnect: Type.Optional(Type.Boolean()),
  },
  strict,
);
export type ProvisionHost = Static<typeof ProvisionHost>;

/** Where a host is from now on, in the administrator's word. */
export const SetHostAddress = Type.Object(
  {
    /** Dialled for the channel from now on, and a name or address of its management in certificates. */
    address: Type.Union([Name, Address]),
    port: Type.Optional(Port),
    /** Where ssh reaches it; where left out and it was the former address, the new one. */
    ssh: Type.Optional(SshTarget),
    /** Only dial there: no certificate says it. */
    channelOnly: Type.Optional(Type.Boolean()),
  },
  strict,
);
export type SetHostAddress = Static<typeof SetHostAddress>;
