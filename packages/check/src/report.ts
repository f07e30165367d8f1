/** How much something that was found matters: `error` means that libvirt or QEMU refuses. */
type Severity = 'error' | 'warning' | 'note';

/** Something that was found, with what mends it. */
export interface CheckFinding {
  /** `area.condition`, stable. */
  readonly code: string;
  readonly severity: Severity;
  /** The file, or what else it is about. */
  readonly file: string;
  /** What is wrong, and what fails because of it. */
  readonly text: string;
  /** The command or edit that mends it. */
  readonly remedy: string;
}

/** Findings about one thing. */
export interface FindingGroup {
  readonly title: string;
  readonly findings: readonly CheckFinding[];
}

/** What a check says in the end. */
export type Verdict = 'ok' | 'warning' | 'broken';

/** The one mapping from findings to a verdict; notes change nothing. */
export function verdictOf(findings: readonly Pick<CheckFinding, 'severity'>[]): Verdict {
  if (findings.some(({ severity }) => severity === 'error')) return 'broken';
  return findings.some(({ severity }) => severity === 'warning') ? 'warning' : 'ok';
}

/** Exit codes by verdict. */
export const VERDICT_EXIT_CODES: Readonly<Record<Verdict, number>> = { ok: 0, warning: 1, broken: 2 };
