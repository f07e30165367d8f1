import { type ErrorCategory, isTrustError } from '@virt-trust/base/error.ts';

const EXIT_CODE: Readonly<Record<ErrorCategory, number>> = {
  failed: 1,
  invalid: 2,
  'not-found': 3,
  conflict: 4,
  denied: 5,
  unauthenticated: 5,
  unavailable: 6,
  internal: 70,
};

export const EXIT_CODES_HELP = `
Exit codes: 0 done, 1 failed, 2 wrong input, 3 not found, 4 conflict, 5 not allowed, 6 unavailable (try again), 70 fault of virt-trust`;

/** The one mapping from error category to exit code. */
export function exitCodeOf(error: unknown): number {
  return isTrustError(error) ? EXIT_CODE[error.category] : EXIT_CODE.internal;
}
