import { hash } from 'node:crypto';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { AlgorithmAge } from './algorithms.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import type { CrlReason } from './crl-reason.ts';
import { OID } from './der/oid.ts';
import { formatName, namesEqual } from './name.ts';
import { issuerHashes, namesIssuer } from './ocsp-cert-id.ts';
import type { OcspResponse, ResponderId, SingleResponse } from './ocsp-response.ts';
import { verifySignature } from './signature.ts';

/** What an OCSP answer is verified for. */
export interface OcspDemands {
  /** Trusted already. */
  readonly issuer: Certificate;
  readonly at: Instant;
  /** How far in the future times may be, in milliseconds; 0 where left out. */
  readonly clockSkew?: number;
  /** How old what is said may be, in milliseconds; where left out, an answer without nextUpdate is refused. */
  readonly maxAge?: number;
  /** Of the request: it must be in the answer. */
  readonly nonce?: Uint8Array;
  /** `current` where left out. */
  readonly algorithms?: AlgorithmAge;
}

/** Evidence that an answer was signed by the issuer of a certificate, or by whom it named for that. */
export interface VerifiedOcspResponse {
  readonly response: OcspResponse;
  readonly responder: Certificate;
  readonly at: Instant;
}

/** What an answer says about a certificate. */
export type OcspStatus =
  | { readonly kind: 'good'; readonly response: VerifiedOcspResponse; readonly single: SingleResponse }
  | {
      readonly kind: 'revoked';
      readonly at: Instant;
      readonly reason: CrlReason;
      readonly response: VerifiedOcspResponse;
    }
  | { readonly kind: 'unknown'; readonly why: TrustError };

function refuse(code: string, reason: string, hint?: string): TrustError {
  return new TrustError(`ocsp.${code}`, 'invalid', `cannot trust the OCSP answer: ${reason}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}

function isNamed(id: ResponderId, certificate: Certificate): boolean {
  if (id.kind === 'name') return namesEqual(id.name, certificate.subject);
  return Buffer.compare(id.hash, hash('sha1', certificate.publicKey.keyBits, 'buffer')) === 0;
}

/** RFC 6960 §4.2.2.2: issued by the very authority, for signing OCSP answers, and valid. */
function checkDelegate(delegate: Certificate, demands: OcspDemands): void {
  const { issuer, at } = demands;
  const subject = formatName(delegate.subject);
  if (!namesEqual(delegate.issuer, issuer.subject)) {
    throw refuse('responder', `${subject} is not certified by the certificate’s issuer`);
  }
  verifySignature(
    delegate.tbs,
    delegate,
    issuer.publicKey,
    'the responder’s certificate',
    demands.algorithms,
  );
  const { extKeyUsage, keyUsage, unknownCritical } = delegate.extensions;
  // SECURITY: anyExtendedKeyUsage does not do, else each server of the authority could vouch for itself.
  if (extKeyUsage?.purposes.includes(OID.ocspSigning) !== true) {
    throw refuse('responder', `${subject} may not sign OCSP answers (extKeyUsage)`);
  }
  if (keyUsage !== undefined && !keyUsage.usages.includes('digitalSignature')) {
    throw refuse('responder', `${subject} may not sign (keyUsage)`);
  }
  if (unknownCritical.length > 0) {
    throw refuse('responder', `${subject} has critical extension ${unknownCritical[0]}, which is not known`);
  }
  if (at < delegate.notBefore || at >= delegate.notAfter + 1000) {
    throw refuse('responder', `${subject} is not valid at ${formatInstant(at)}`);
  }
}

function parseDelegate(der: Uint8Array): Certificate | undefined {
  try {
    return parseCertificate(der, 'tolerant');
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return undefined;
  }
}

function findResponder(response: OcspResponse, demands: OcspDemands): Certificate {
  const { issuer, algorithms } = demands;
  const signedBy = (certificate: Certificate) =>
    verifySignature(response.tbs, response, certificate.publicKey, 'OCSP answer', algorithms);
  let refusal: TrustError | undefined;
  const attempt = (check: () => void): boolean => {
    try {
      check();
      return true;
    } catch (error) {
      if (!isTrustError(error)) throw error;
      refusal ??= error;
      return false;
    }
  };
  if (isNamed(response.responderId, issuer) && attempt(() => signedBy(issuer))) return issuer;
  for (const der of response.certificates) {
    const delegate = parseDelegate(der);
    if (delegate === undefined || !isNamed(response.responderId, delegate)) continue;
    const good = attempt(() => {
      checkDelegate(delegate, demands);
      signedBy(delegate);
    });
    if (good) return delegate;
  }
  throw refusal ?? refuse('responder', 'the certificate of the responder is not in it');
}

function checkNonce(response: OcspResponse, nonce: Uint8Array | undefined): void {
  if (nonce === undefined) return;
  const given = response.extensions.nonce;
  if (given === undefined)
    throw refuse('nonce', 'it does not repeat the nonce, so that it may be an old one');
  if (Buffer.compare(given, nonce) !== 0) throw refuse('nonce', 'its nonce is another one');
}

/**
 * Verifies who signed an answer, its nonce, its time and that it has no critical extension that is not processed
 * (RFC 6960 §3.2); returns evidence, throws `ocsp.*` or `signature.*`. What it says of a certificate is told by
 * `statusInOcspResponse`. That a delegated responder itself was revoked is not asked: its certificates are short-lived.
 */
export function verifyOcspResponse(response: OcspResponse, demands: OcspDemands): VerifiedOcspResponse {
  const responder = findResponder(response, demands);
  const [unknown] = response.extensions.unknownCritical;
  if (unknown !== undefined) throw refuse('unknown_critical', `critical extension ${unknown} is not known`);
  checkNonce(response, demands.nonce);
  if (response.producedAt > demands.at + (demands.clockSkew ?? 0)) {
    throw refuse('not_yet_valid', `it is of ${formatInstant(response.producedAt)}`, 'Compare the clocks.');
  }
  return { response, responder, at: demands.at };
}

/** RFC 6960 §4.2.2.1: undefined where the answer is current. */
function staleness(single: SingleResponse, demands: OcspDemands): TrustError | undefined {
  const { at, clockSkew = 0, maxAge } = demands;
  const { thisUpdate, nextUpdate } = single;
  if (thisUpdate > at + clockSkew) {
    return refuse('not_yet_valid', `it holds from ${formatInstant(thisUpdate)}`, 'Compare the clocks.');
  }
  if (nextUpdate === undefined && maxAge === undefined) {
    return refuse('no_next_update', 'it does not say until when it holds');
  }
  if (nextUpdate !== undefined && at >= nextUpdate + 1000) {
    return refuse('stale', `it held until ${formatInstant(nextUpdate)}`);
  }
  if (maxAge !== undefined && at - thisUpdate > maxAge) {
    return refuse('stale', `it is of ${formatInstant(thisUpdate)}, which is too old`);
  }
  return undefined;
}

/** What is against believing that part of the answer. */
function refusalOf(
  single: SingleResponse,
  response: OcspResponse,
  certificate: Certificate,
  demands: OcspDemands,
): TrustError | undefined {
  const [unknown] = single.extensions.unknownCritical;
  if (unknown !== undefined) return refuse('unknown_critical', `critical extension ${unknown} is not known`);
  // Nobody can have known of a certificate that was not there.
  if (response.producedAt < certificate.notBefore) {
    return refuse('produced_early', `it is of ${formatInstant(response.producedAt)}, before the certificate`);
  }
  return staleness(single, demands);
}

/**
 * What an answer says about a certificate of the issuer (RFC 6960 §3.2), believed only where `verifyOcspResponse` accepts
 * it. Where several parts are about the certificate, the worst holds.
 * @public
 */
export function statusInOcspResponse(
  response: OcspResponse,
  certificate: Certificate,
  demands: OcspDemands,
): OcspStatus {
  let verified: VerifiedOcspResponse;
  try {
    verified = verifyOcspResponse(response, demands);
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return { kind: 'unknown', why: error };
  }
  const { issuer } = demands;
  const hashes = [issuerHashes(issuer, 'sha1'), issuerHashes(issuer, 'sha256')];
  const ours = namesEqual(certificate.issuer, issuer.subject)
    ? response.responses.filter(
        ({ certId }) =>
          certId.serialNumber === certificate.serialNumber && hashes.some((of) => namesIssuer(certId, of)),
      )
    : [];
  let why: TrustError | undefined;
  let good: SingleResponse | undefined;
  for (const single of ours) {
    const { status } = single;
    const refusal = refusalOf(single, response, certificate, demands);
    // SECURITY: that the next answer is overdue does not undo a revocation, unless it was only a hold.
    const lasting = refusal?.code === 'ocsp.stale' && status.kind === 'revoked' && !isHold(status.reason);
    if (status.kind === 'revoked' && (refusal === undefined || lasting)) {
      return { kind: 'revoked', at: status.at, reason: status.reason, response: verified };
    }
    if (refusal !== undefined) why ??= refusal;
    else if (status.kind === 'unknown')
      why ??= refuse('unknown', 'the responder does not know the certificate');
    else good ??= single;
  }
  if (why !== undefined) return { kind: 'unknown', why };
  if (good !== undefined) return { kind: 'good', response: verified, single: good };
  return { kind: 'unknown', why: refuse('other_certificate', 'it is about other certificates') };
}

function isHold(reason: CrlReason): boolean {
  return reason === 'certificateHold' || reason === 'removeFromCRL';
}
