import type { MigrationMatrix } from '@virt-trust/contract/model/migration-plan.ts';
import { writeLine, writeTable } from './output.ts';

/** How VMs would migrate from each host (row) to each other (column), and why not where they would not. */
export function writeMatrix({ hosts, pairs }: MigrationMatrix): void {
  const cell = (from: string, to: string) => {
    const pair = pairs.find((one) => one.from === from && one.to === to);
    if (pair === undefined) return '-';
    return pair.ready ? (pair.mode ?? '-') : `${pair.mode ?? 'none'}!`;
  };
  writeTable(
    ['from \\ to', ...hosts],
    hosts.map((from) => [from, ...hosts.map((to) => cell(from, to))]),
  );
  for (const { from, to, detail } of pairs.filter(({ ready }) => !ready))
    writeLine(`  ${from} to ${to}: ${detail}`);
}
