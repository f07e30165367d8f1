import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { AlgorithmAge } from './algorithms.ts';
import type { Certificate } from './certificate.ts';
import type { Crl } from './crl.ts';
import { formatName, namesEqual } from './name.ts';
import type { Conformance } from './path-check.ts';
import { verifySignature } from './signature.ts';

/** What a CRL is verified for. */
export interface CrlDemands {
  readonly at: Instant;
  /** How far in the future thisUpdate may be, in milliseconds; 0 where left out. */
  readonly clockSkew?: number;
  /** How old a CRL may be at most, in milliseconds; where left out, one without nextUpdate is refused. */
  readonly maxAge?: number;
  /** `strict` where left out: it must keep what RFC 5280 §5 asks of those who issue CRLs. */
  readonly conformance?: Conformance;
  /** `current` where left out. */
  readonly algorithms?: AlgorithmAge;
}

/** Evidence that a CRL was signed by an authority and was current then. */
export interface VerifiedCrl {
  readonly crl: Crl;
  /** The certificate whose key signed it. */
  readonly issuer: Certificate;
  readonly at: Instant;
}

/** SECURITY: how many authorities of one name are tried, each of which costs a signature. */
const MAX_ISSUERS = 16;

function refuse(code: string, crl: Crl, reason: string, hint?: string): TrustError {
  const issuer = formatName(crl.issuer) || '(empty name)';
  return new TrustError(`crl.${code}`, 'invalid', `cannot trust the CRL of ${issuer}: ${reason}`, {
    context: {
      issuer,
      thisUpdate: formatInstant(crl.thisUpdate),
      ...(crl.nextUpdate === undefined ? {} : { nextUpdate: formatInstant(crl.nextUpdate) }),
    },
    ...(hint === undefined ? {} : { hint }),
  });
}

function checkSigner(crl: Crl, issuers: readonly Certificate[], age: AlgorithmAge): Certificate {
  const named = issuers.filter((candidate) => namesEqual(candidate.subject, crl.issuer));
  if (named.length === 0) {
    throw refuse('issuer_unknown', crl, 'none of the trusted authorities has that name');
  }
  // RFC 5280 §4.2.1.3: only who may sign CRLs.
  const signers = named.filter((candidate) => {
    const { keyUsage } = candidate.extensions;
    return keyUsage === undefined || keyUsage.usages.includes('cRLSign');
  });
  if (signers.length === 0) throw refuse('key_usage', crl, 'its issuer’s keyUsage does not allow CRLs');
  let cause: unknown;
  for (const candidate of signers.slice(0, MAX_ISSUERS)) {
    try {
      verifySignature(crl.tbs, crl, candidate.publicKey, 'CRL', age);
      return candidate;
    } catch (error) {
      if (!(error instanceof TrustError)) throw error;
      // A refusal of the algorithm says more than that another authority's key does not fit.
      if (cause === undefined || error.code !== 'signature.invalid') cause = error;
    }
  }
  const reason =
    cause instanceof TrustError && cause.code !== 'signature.invalid' ? cause.message : undefined;
  throw refuse('signature', crl, reason ?? 'it was not signed by that authority');
}

function checkTimes(crl: Crl, { at, clockSkew = 0, maxAge }: CrlDemands): void {
  const { thisUpdate, nextUpdate } = crl;
  if (thisUpdate > at + clockSkew) {
    const reason = `it is of ${formatInstant(thisUpdate)}, and it is ${formatInstant(at)}`;
    throw refuse('not_yet_valid', crl, reason, 'Compare the clocks of both machines.');
  }
  if (nextUpdate === undefined && maxAge === undefined) {
    throw refuse('no_next_update', crl, 'it does not say when the next one is due');
  }
  const hint = 'Have its authority publish a new one.';
  // RFC 5280 §5.1.2.5: the whole second that is named still counts.
  if (nextUpdate !== undefined && at >= nextUpdate + 1000) {
    throw refuse('stale', crl, `its successor was due at ${formatInstant(nextUpdate)}`, hint);
  }
  if (maxAge !== undefined && at - thisUpdate > maxAge) {
    throw refuse('stale', crl, `it is of ${formatInstant(thisUpdate)}, which is too old`, hint);
  }
}

function checkConformance({ version, extensions }: Crl): string | undefined {
  if (version !== 2) return 'it is of version 1 (RFC 5280 §5.1.2.1)';
  if (extensions.crlNumber === undefined) return 'it has no CRL number (RFC 5280 §5.2.3)';
  if (extensions.authorityKeyIdentifier?.keyIdentifier === undefined) {
    return 'it has no authority key identifier (RFC 5280 §5.2.1)';
  }
  return undefined;
}

/**
 * Verifies that one of the authorities, all of them trusted already, signed the CRL, that it has no critical extension
 * that is not processed and is current (RFC 5280 §5, §6.3.3 (a), (f), (g)); throws `crl.*`. Delta CRLs are refused.
 */
export function verifyCrl(crl: Crl, issuers: readonly Certificate[], demands: CrlDemands): VerifiedCrl {
  const issuer = checkSigner(crl, issuers, demands.algorithms ?? 'current');
  // RFC 5280 §5.2, §5.3: whoever does not know a critical extension must not use the CRL.
  const unknown = crl.extensions.unknownCritical[0] ?? crl.entries.unknownCritical[0];
  if (unknown !== undefined) {
    throw refuse('unknown_critical', crl, `critical extension ${unknown} is not known`);
  }
  if (crl.extensions.deltaCrlIndicator !== undefined) {
    throw refuse('delta', crl, 'it is a delta CRL, which says only what changed', 'Give the complete CRL.');
  }
  const fault = demands.conformance === 'tolerant' ? undefined : checkConformance(crl);
  if (fault !== undefined) throw refuse('nonconforming', crl, fault);
  checkTimes(crl, demands);
  return { crl, issuer, at: demands.at };
}
