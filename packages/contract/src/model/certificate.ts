import Type, { type Static } from 'typebox';
import { SubjectAltNames } from './desired-state.ts';
import { Line, Name, Pem, Pin, SerialHex, Time } from './primitives.ts';
import { Purpose, Service } from './service.ts';

const strict = { additionalProperties: false };

/** Why a certificate was revoked (RFC 5280 §5.3.1); `removeFromCRL` belongs to delta CRLs, which there are none of. */
export const RevocationReason = Type.Union([
  Type.Literal('unspecified'),
  Type.Literal('keyCompromise'),
  Type.Literal('cACompromise'),
  Type.Literal('affiliationChanged'),
  Type.Literal('superseded'),
  Type.Literal('cessationOfOperation'),
  Type.Literal('certificateHold'),
  Type.Literal('privilegeWithdrawn'),
  Type.Literal('aACompromise'),
]);
export type RevocationReason = Static<typeof RevocationReason>;

export const Revocation = Type.Object(
  { at: Time, reason: RevocationReason, by: Line, comment: Line },
  strict,
);
export type Revocation = Static<typeof Revocation>;

/** When a certificate that is served will be renewed, and why then. */
export const RenewalPlan = Type.Object(
  {
    at: Time,
    /** The reckoning, line by line: issued, half of the lifetime, jitter, window, back-off, or what made it due at once. */
    explanation: Type.Array(Line, { maxItems: 32 }),
    /** How often renewing has failed since the last success. */
    failures: Type.Integer({ minimum: 0, maximum: 1_000_000 }),
    lastFailure: Type.Union([Line, Type.Null()]),
  },
  strict,
);
export type RenewalPlan = Static<typeof RenewalPlan>;

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
    /** When it was made; `notBefore` is earlier by the back-dating. */
    issuedAt: Time,
    notBefore: Time,
    notAfter: Time,
    pin: Pin,
    revocation: Type.Union([Revocation, Type.Null()]),
    /** Null where it is served nowhere, or not managed. */
    renewal: Type.Union([RenewalPlan, Type.Null()]),
    pem: Type.Union([Pem, Type.Null()]),
  },
  strict,
);
export type Certificate = Static<typeof Certificate>;

/** A request for a certificate that a host's key signed, brought by an operator instead of the agent. */
export const IssueCertificate = Type.Object({ host: Name, service: Service, csr: Pem }, strict);
export type IssueCertificate = Static<typeof IssueCertificate>;
