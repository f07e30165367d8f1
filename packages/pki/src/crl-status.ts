import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Certificate } from './certificate.ts';
import type { Crl } from './crl.ts';
import type { CrlEntry } from './crl-entry.ts';
import type { CrlReason } from './crl-reason.ts';
import { type CrlDemands, type VerifiedCrl, verifyCrl } from './crl-verify.ts';
import { distributionPointsMeet, parseDistributionPoints } from './distribution-point.ts';
import { namesEqual } from './name.ts';

/** What CRLs say about a certificate, with the CRL that says so. */
export type CrlStatus =
  | { readonly kind: 'good'; readonly crl: VerifiedCrl }
  | { readonly kind: 'revoked'; readonly at: Instant; readonly reason: CrlReason; readonly crl: Crl }
  | {
      readonly kind: 'unknown';
      /** Why each CRL that might have told does not; `crl.none` where there was none. */
      readonly why: TrustError;
    };

/** What `statusInCrl` looks at. */
export interface CrlQuestion extends CrlDemands {
  readonly certificate: Certificate;
  /** Authorities that are trusted already: the issuer, and others of its name where it changed its key. */
  readonly issuers: readonly Certificate[];
  readonly crls: readonly Crl[];
}

/** SECURITY: how many CRLs of the issuer's name are looked at; with more, the answer is unknown. */
const MAX_CRLS = 32;

function outside(reason: string): TrustError {
  return new TrustError('crl.scope', 'invalid', `cannot use the CRL for this certificate: ${reason}`);
}

/** Throws `crl.scope` where the CRL does not cover the certificate (RFC 5280 §6.3.3 (b)). */
function checkScope(crl: Crl, certificate: Certificate): void {
  const point = crl.extensions.issuingDistributionPoint;
  if (point === undefined) return;
  const authority = certificate.extensions.basicConstraints?.ca === true;
  switch (point.onlyContains) {
    case 'any':
      break;
    case 'user-certificates':
      if (authority) throw outside('it covers end certificates alone');
      break;
    case 'authority-certificates':
      if (!authority) throw outside('it covers certificates of authorities alone');
      break;
    case 'attribute-certificates':
      throw outside('it covers attribute certificates alone');
  }
  if (point.distributionPoint === undefined) return;
  const place = point.distributionPoint;
  const named = certificate.extensions.crlDistributionPoints;
  const points = named === undefined ? [] : parseDistributionPoints(named.der);
  const meets = points.some(({ name, crlIssuer }) => {
    if (name !== undefined) return distributionPointsMeet(place, name);
    return crlIssuer.length > 0 && distributionPointsMeet(place, { kind: 'full', names: crlIssuer });
  });
  if (!meets) throw outside('it is that of another distribution point');
}

interface Reading {
  readonly crl: Crl;
  readonly entry: CrlEntry | undefined;
  /** Why it cannot tell that the certificate is good. */
  readonly refusal: TrustError | undefined;
  readonly verified: VerifiedCrl | undefined;
}

function attempt<Result>(step: () => Result): Result | TrustError {
  try {
    return step();
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return error;
  }
}

function read(crl: Crl, question: CrlQuestion): Reading {
  const { certificate } = question;
  const nothing = (refusal: TrustError): Reading => ({ crl, entry: undefined, refusal, verified: undefined });
  const verified = attempt(() => verifyCrl(crl, question.issuers, question));
  // SECURITY: that the next CRL is overdue does not undo a revocation, it only proves nothing good any more.
  const signed = !(verified instanceof TrustError) || verified.code === 'crl.stale';
  if (!signed) return nothing(verified);
  const scope = attempt(() => checkScope(crl, certificate));
  if (scope instanceof TrustError) return nothing(scope);
  const entry = crl.entries.find(certificate.serialNumber, certificate.issuer, crl.issuer);
  if (verified instanceof TrustError) return { crl, entry, refusal: verified, verified: undefined };
  const partial = crl.extensions.issuingDistributionPoint?.onlySomeReasons !== undefined;
  const refusal = partial ? outside('it covers only some reasons') : undefined;
  return { crl, entry, refusal, verified };
}

function isSilent({ entry }: Reading): boolean {
  return entry === undefined || entry.reason === 'removeFromCRL';
}

/** Revoked by this entry, unless it was only on hold and a later CRL no longer has it. */
function revokes(reading: Reading, readings: readonly Reading[]): boolean {
  if (isSilent(reading)) return false;
  if (reading.entry?.reason !== 'certificateHold') return true;
  return !readings.some((other) => {
    return (
      isSilent(other) &&
      other.verified !== undefined &&
      other.refusal === undefined &&
      other.crl.thisUpdate > reading.crl.thisUpdate
    );
  });
}

/**
 * Whether CRLs say that a certificate is revoked (RFC 5280 §6.3.3), which is believed only of CRLs that `verifyCrl`
 * accepts; one that is merely overdue can still revoke. Certificate and authorities are taken for verified. CRLs signed
 * by another name than the certificate's issuer are not used.
 * @public
 */
export function statusInCrl(question: CrlQuestion): CrlStatus {
  const { certificate, crls } = question;
  const candidates = crls.filter((crl) => namesEqual(crl.issuer, certificate.issuer));
  const readings = candidates.slice(0, MAX_CRLS).map((crl) => read(crl, question));
  for (const reading of readings) {
    if (reading.entry === undefined || !revokes(reading, readings)) continue;
    const { revocationDate, reason } = reading.entry;
    return { kind: 'revoked', at: revocationDate, reason, crl: reading.crl };
  }
  if (candidates.length > MAX_CRLS) {
    const message = `cannot tell from CRLs: more than ${MAX_CRLS} of one issuer`;
    return { kind: 'unknown', why: new TrustError('crl.too_many', 'invalid', message) };
  }
  const telling = readings.find((reading) => reading.refusal === undefined && isSilent(reading));
  if (telling?.verified !== undefined) return { kind: 'good', crl: telling.verified };
  const why =
    readings[0]?.refusal ??
    new TrustError('crl.none', 'invalid', 'cannot tell from CRLs: there is none of the issuer');
  return { kind: 'unknown', why };
}
