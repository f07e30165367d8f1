import Type, { type Static } from 'typebox';
import { Address, Count, Line, Time } from './primitives.ts';
import { Purpose } from './service.ts';

const strict = { additionalProperties: false };

/** A CRL number in hexadecimal, at most 20 octets (RFC 5280 §5.2.3). */
export const CrlNumber = Type.String({
  pattern: '^[0-9a-f]{1,40}$',
  description: 'a CRL number in hexadecimal',
});
export type CrlNumber = Static<typeof CrlNumber>;

/** One CRL in PEM: a thousand entries with reasons are 80 KiB. */
export const CrlPem = Type.String({
  maxLength: 131_072,
  pattern: '^-----BEGIN X509 CRL-----',
  description: 'one CRL in PEM',
});

/** The CRL of a purpose's authority. */
export const CrlDelivery = Type.Object({ purpose: Purpose, crl: CrlPem }, strict);
export type CrlDelivery = Static<typeof CrlDelivery>;

/** Somebody whose certificates were revoked: established sessions of theirs are cut. */
export const RevokedParty = Type.Object(
  {
    /** Subjects of the revoked certificates, RFC 4514, as libvirt prints them. */
    subjects: Type.Array(Line, { maxItems: 64 }),
    /** Addresses from which a revoked host connects. */
    addresses: Type.Array(Address, { maxItems: 64 }),
  },
  strict,
);
export type RevokedParty = Static<typeof RevokedParty>;

/** The CRL that a host holds for a purpose: verified, installed where the purpose's services read it, and loaded. */
export const InstalledCrl = Type.Object(
  {
    purpose: Purpose,
    issuer: Line,
    number: CrlNumber,
    thisUpdate: Time,
    nextUpdate: Time,
    entries: Count,
    installedAt: Time,
    /** Why a daemon has not loaded it; null where all have. */
    failure: Type.Union([Line, Type.Null()]),
  },
  strict,
);
export type InstalledCrl = Static<typeof InstalledCrl>;
