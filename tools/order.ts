/**
 * The files that take longest, longest first: begun first they leave no long tail in which all but one core wait.
 * One that is not named only begins later.
 *
 * @public for its test: a file that was renamed must not be forgotten here.
 */
export const LONG: readonly string[] = [
  'packages/agent/src/apply/kill.test.ts',
  'lab/e2e/migration-failures-pinned.e2e.ts',
  'lab/e2e/migration-failures-tls.e2e.ts',
  'lab/e2e/rescue.e2e.ts',
  'lab/e2e/migration-failures.e2e.ts',
  'lab/e2e/option-outcomes.e2e.ts',
  'lab/e2e/renewal.e2e.ts',
  'lab/e2e/options.e2e.ts',
  'lab/e2e/pinned.e2e.ts',
  'lab/e2e/preflight-pairs.e2e.ts',
  'lab/e2e/preflight.e2e.ts',
  'lab/e2e/kill.e2e.ts',
  'lab/e2e/start.e2e.ts',
  'lab/e2e/conduct.e2e.ts',
  'lab/e2e/readdress.e2e.ts',
  'lab/e2e/reload-waits.e2e.ts',
  'lab/e2e/adoption.e2e.ts',
  'lab/e2e/migration-locks.e2e.ts',
  'lab/e2e/modes.e2e.ts',
  'lab/e2e/networks.e2e.ts',
];

/** Files in the order in which to begin them: long ones first, the others by name. */
export function longestFirst(files: readonly string[]): string[] {
  const rank = (file: string) => (LONG.includes(file) ? LONG.indexOf(file) : LONG.length);
  return [...files].sort((one, other) => rank(one) - rank(other) || (one < other ? -1 : 1));
}
