import Type, { type Static } from 'typebox';
import { SubjectAltNames } from './desired-state.ts';
import { Interface } from './inventory.ts';
import { Address, DnsName, InterfaceName, Line, Text } from './primitives.ts';
import { Service } from './service.ts';

const strict = { additionalProperties: false };

/** What an interface of a host is for. */
export const InterfaceRole = Type.Union([
  Type.Literal('management'),
  Type.Literal('migration'),
  Type.Literal('display'),
  Type.Literal('storage'),
]);
export type InterfaceRole = Static<typeof InterfaceRole>;
export const INTERFACE_ROLES: readonly InterfaceRole[] = ['management', 'migration', 'display', 'storage'];

/** An interface that serves, with what certificates may say of it. */
export const DeclaredInterface = Type.Object(
  {
    name: InterfaceName,
    roles: Type.Array(InterfaceRole, { minItems: 1, maxItems: 4, uniqueItems: true }),
    names: SubjectAltNames,
  },
  strict,
);
export type DeclaredInterface = Static<typeof DeclaredInterface>;

/** A name or address that a host reports and gets no certificate for. */
export const RefusedName = Type.Object(
  {
    /** A DNS name or an address, as reported. */
    name: Line,
    /** Null for the host's own name. */
    interface: Type.Union([InterfaceName, Type.Null()]),
    /** `interface.address_conflict`, `interface.outside_subnets`, ... */
    rule: Line,
    reason: Text,
    /** The way out. */
    hint: Text,
  },
  strict,
);
export type RefusedName = Static<typeof RefusedName>;

/** What an administrator says of one interface; what is null is as the settings and the host's report have it. */
export const InterfaceWord = Type.Object(
  {
    roles: Type.Union([Type.Array(InterfaceRole, { maxItems: 4, uniqueItems: true }), Type.Null()]),
    /** FQDNs under which clients reach this interface. */
    dns: Type.Array(DnsName, { maxItems: 16, uniqueItems: true }),
    /** Addresses under which clients reach it besides its own: in front of NAT or prefix translation. */
    addresses: Type.Array(Address, { maxItems: 16, uniqueItems: true }),
  },
  strict,
);
export type InterfaceWord = Static<typeof InterfaceWord>;

/** An interface of a host with all that is known, wanted and refused of it. */
export const InterfaceView = Type.Object(
  {
    ...Interface.properties,
    /** False where only the administrator speaks of it: the host does not report it now. */
    reported: Type.Boolean(),
    roles: Type.Array(
      Type.Object(
        {
          role: InterfaceRole,
          /** Where that comes from: `host add`, `interface set`, `setting role.display (cluster rack1)`. */
          from: Line,
        },
        strict,
      ),
      { maxItems: 4 },
    ),
    /** What certificates say of it; empty where it has no role. */
    names: SubjectAltNames,
    refused: Type.Array(RefusedName, { maxItems: 128 }),
    services: Type.Array(Service, { maxItems: 16 }),
  },
  strict,
);
export type InterfaceView = Static<typeof InterfaceView>;

/** Changes what the administrator says of an interface; what is left out stays. */
export const SetInterface = Type.Object(
  {
    /** Null: as the settings have it. */
    roles: Type.Optional(InterfaceWord.properties.roles),
    dns: Type.Optional(InterfaceWord.properties.dns),
    addresses: Type.Optional(InterfaceWord.properties.addresses),
    /** Whether the addresses that the host reports on it now are accepted, as `host add` does; true where left out. */
    accept: Type.Optional(Type.Boolean()),
    /** An address that was accepted, or is claimed, and is the host's no more: another host may have it. */
    release: Type.Optional(Type.Array(Address, { maxItems: 64, uniqueItems: true })),
  },
  strict,
);
export type SetInterface = Static<typeof SetInterface>;
