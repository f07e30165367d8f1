/**
 * The files that take longest, longest first: begun first they leave no long tail in which all but one core wait.
 * Where one is not named it only comes later.
 */
const LONG: readonly string[] = ['packages/agent/src/apply/kill.test.ts'];

/** Files in the order in which to begin them: long ones first, the others by name. */
export function longestFirst(files: readonly string[]): string[] {
  const rank = (file: string) => (LONG.includes(file) ? LONG.indexOf(file) : LONG.length);
  return [...files].sort((one, other) => rank(one) - rank(other) || (one < other ? -1 : 1));
}
