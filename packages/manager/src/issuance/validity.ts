import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant, instant } from '@virt-trust/base/instant.ts';

export interface ValidityInput {
  readonly now: Instant;
  /** Milliseconds. */
  readonly lifetime: number;
  /** How far clocks may be apart, in milliseconds. */
  readonly skew: number;
  readonly authority: { readonly notBefore: Instant; readonly notAfter: Instant };
}

export interface Validity {
  readonly notBefore: Instant;
  readonly notAfter: Instant;
}

/** How long: back-dated by the allowed skew, never outside of the authority's own time; throws `issuance.authority_expired`. */
export function validityOf({ now, lifetime, skew, authority }: ValidityInput): Validity {
  if (now >= authority.notAfter) {
    throw new TrustError(
      'issuance.authority_expired',
      'conflict',
      `cannot issue a certificate: the authority expired at ${formatInstant(authority.notAfter)}`,
      { hint: 'Rotate the authority.' },
    );
  }
  // Certificates count in whole seconds.
  const seconds = (value: number) => instant(Math.floor(value / 1000) * 1000);
  return {
    notBefore: seconds(Math.max(now - skew, authority.notBefore)),
    notAfter: seconds(Math.min(now + lifetime, authority.notAfter)),
  };
}
