import Type, { type Static } from 'typebox';
import { DnsName, Line, Name, Pem, Time } from './primitives.ts';
import { Purpose } from './service.ts';

const strict = { additionalProperties: false };

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
