import Type, { type Static } from 'typebox';
import { Count, Line, Name, Text, Time, Uuid } from './primitives.ts';

const strict = { additionalProperties: false };

export const AlarmKind = Type.Union([
  /** A certificate is near its end, or past it. */
  Type.Literal('certificate-expiry'),
  /** An authority's certificate is near its end. */
  Type.Literal('authority-expiry'),
  /** A renewal failed. */
  Type.Literal('renewal-failed'),
  /** A revoked certificate is still served. */
  Type.Literal('revoked-served'),
  /** A CRL is near its nextUpdate or past it, on a host or as published. */
  Type.Literal('crl-stale'),
  /** A host has not the newest CRL. */
  Type.Literal('crl-behind'),
  /** CRLs are held back after a restore. */
  Type.Literal('crl-held'),
  /** A CRL comes near the number of entries that QEMU can bear. */
  Type.Literal('crl-size'),
  /** What is served is not what should be. */
  Type.Literal('drift'),
  /** Something keeps changing back what virt-trust repaired. */
  Type.Literal('contested'),
  /** A host serves the local set that it made to start at all. */
  Type.Literal('rescue'),
  Type.Literal('host-unreachable'),
  Type.Literal('host-failed'),
  /** A wave of renewals stopped, or somebody froze the fleet. */
  Type.Literal('renewals-stopped'),
  /** Two hosts report one address or name; the newcomer is refused. */
  Type.Literal('address-conflict'),
  /** A host reports an address or name that nobody said may be its own. */
  Type.Literal('address-refused'),
]);
export type AlarmKind = Static<typeof AlarmKind>;

export const AlarmSeverity = Type.Union([Type.Literal('warning'), Type.Literal('critical')]);
export type AlarmSeverity = Static<typeof AlarmSeverity>;

/** Something that wants a person's eye; there is at most one open for a kind and subject. */
export const Alarm = Type.Object(
  {
    id: Uuid,
    kind: AlarmKind,
    severity: AlarmSeverity,
    host: Type.Union([Name, Type.Null()]),
    /** What it is about: `vnc of host kvm1`. */
    subject: Line,
    message: Text,
    /** What to do: a command, or an edit. */
    action: Text,
    state: Type.Union([Type.Literal('raised'), Type.Literal('acknowledged'), Type.Literal('cleared')]),
    raisedAt: Time,
    acknowledgedBy: Type.Union([Line, Type.Null()]),
    clearedAt: Type.Union([Time, Type.Null()]),
    /** How often it was seen anew since it was raised. */
    seen: Count,
  },
  strict,
);
export type Alarm = Static<typeof Alarm>;

/** Where alarms are sent to: signed requests, tried again until they are taken. */
export const Webhook = Type.Object(
  {
    url: Line,
    /** Deliveries that wait. */
    waiting: Count,
    /** Deliveries that were given up because too many waited. */
    dropped: Count,
    lastDeliveryAt: Type.Union([Time, Type.Null()]),
    lastFailure: Type.Union([Line, Type.Null()]),
  },
  strict,
);
export type Webhook = Static<typeof Webhook>;
