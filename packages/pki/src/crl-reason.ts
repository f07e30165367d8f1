/** Why a certificate is in a CRL, by the number of its CRLReason (RFC 5280 §5.3.1); 7 is not used. */
const CRL_REASONS = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'certificateHold',
  undefined,
  'removeFromCRL',
  'privilegeWithdrawn',
  'aACompromise',
] as const;

/** A CRLReason by its name (RFC 5280 §5.3.1). */
export type CrlReason = Exclude<(typeof CRL_REASONS)[number], undefined>;

/** The CRLReason with that number, undefined where there is none. */
export function crlReasonOfCode(code: number): CrlReason | undefined {
  return CRL_REASONS[code];
}

/** The number of a CRLReason. */
export function crlReasonCode(reason: CrlReason): number {
  return CRL_REASONS.indexOf(reason);
}
