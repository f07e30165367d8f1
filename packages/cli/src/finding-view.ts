import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import { writeLine } from './output.ts';

/** A finding and for how much it counts. */
export interface CountedFinding {
  readonly finding: Finding;
  /** Such as `4 pairs`; empty where there is nothing to count. */
  readonly where: string;
}

const ORDER: readonly Finding['severity'][] = ['unsafe', 'error', 'warning', 'note'];

/** Worst first, else in the order that they have. */
export function worstFirst<Item>(
  items: readonly Item[],
  severity: (item: Item) => Finding['severity'],
): Item[] {
  return items.toSorted((a, b) => ORDER.indexOf(severity(a)) - ORDER.indexOf(severity(b)));
}

/** What is wrong, what would fail, and how to mend it. */
export function writeFindings(findings: readonly CountedFinding[]): void {
  for (const { finding, where } of worstFirst(findings, (one) => one.finding.severity)) {
    const { severity, code, host, what, fix } = finding;
    const about = [code, host ?? 'both', where].filter((part) => part !== '').join(', ');
    writeLine(`  ${severity}: ${what.trimEnd().replaceAll('\n', '\n    ')} (${about})`);
    if (fix !== '') writeLine(`    mend: ${fix.trimEnd().replaceAll('\n', '\n      ')}`);
  }
}
