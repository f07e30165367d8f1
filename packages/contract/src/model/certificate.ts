import Type, { type Static } from 'typebox';
import { SubjectAltNames } from './desired-state.ts';
import { Line, Name, Pem, Pin, SerialHex, Time } from './primitives.ts';
import { Purpose, Service } from './service.ts';

const strict = { additionalProperties: false };

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

/** A request for a certificate that a host's key signed, brought by an operator instead of the agent. */
export const IssueCertificate = Type.Object({ host: Name, service: Service, csr: Pem }, strict);
export type IssueCertificate = Static<typeof IssueCertificate>;
