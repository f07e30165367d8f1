import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import type { MatrixPair, MigrationMatrix } from '@virt-trust/contract/model/migration-plan.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import { type CountedFinding, worstFirst, writeFindings } from './finding-view.ts';
import { writeLine } from './output.ts';

const LETTERS: Readonly<Record<MigrationMode, string>> = { tls: 'T', pinned: 'P', plain: 'C' };
const REFUSED = '-';
const FAILS = 'x';
const ITSELF = '.';
/** With more hosts than this there is no space between cells. */
const SPACED_HOSTS = 40;
const FINDINGS_SHOWN = 40;

/** Shows which host migrates to which and how, hosts by hosts, and below what is wrong. */
export function writeMatrix({ hosts, pairs, probed }: MigrationMatrix, cluster?: string): void {
  const [only] = hosts;
  if (only === undefined || hosts.length === 1) {
    const where = cluster === undefined ? '' : ` in cluster ${cluster}`;
    writeLine(
      only === undefined ? 'No hosts.' : `One host alone${where}, ${only}: nothing to migrate between.`,
    );
    return;
  }
  const cells = new Map(pairs.map((pair) => [`${pair.from} ${pair.to}`, cellOf(pair)]));
  const space = hosts.length > SPACED_HOSTS ? '' : ' ';
  const digits = String(hosts.length).length;
  const width = Math.max(...hosts.map((host) => host.length), 'FROM \\ TO'.length);
  const margin = width + digits + 2;
  // The columns' numbers, one digit below the other.
  for (let place = digits - 1; place >= 0; place--) {
    const numbers = hosts.map((_, index) => {
      const digit = Math.floor((index + 1) / 10 ** place) % 10;
      return index + 1 < 10 ** place ? ' ' : String(digit);
    });
    const label = place === 0 ? 'FROM \\ TO' : '';
    writeLine(`${label.padEnd(margin)}${numbers.join(space)}`.trimEnd());
  }
  for (const [index, from] of hosts.entries()) {
    const row = hosts.map((to) => (from === to ? ITSELF : (cells.get(`${from} ${to}`) ?? '?')));
    writeLine(`${String(index + 1).padStart(digits)} ${from.padEnd(width)} ${row.join(space)}`);
  }
  writeLine();
  writeLine(
    `T tls   P pinned   C plain, in the clear   ${FAILS} would fail   ${REFUSED} no mode is feasible`,
  );
  writeLine('small letters: with warnings');
  writeLine();
  writeLine(summaryOf(pairs, probed));
  const counted = countFindings(pairs);
  if (counted.length === 0) return;
  writeLine();
  writeFindings(counted.slice(0, FINDINGS_SHOWN));
  if (counted.length > FINDINGS_SHOWN)
    writeLine(`  ... and ${counted.length - FINDINGS_SHOWN} more: --json has them all`);
}

function cellOf({ mode, ready, findings }: MatrixPair): string {
  if (mode === null) return REFUSED;
  if (!ready) return FAILS;
  const letter = LETTERS[mode];
  return findings.some(({ severity }) => severity === 'warning') ? letter.toLowerCase() : letter;
}

function summaryOf(pairs: readonly MatrixPair[], probed: boolean): string {
  const count = (is: (pair: MatrixPair) => boolean) => pairs.filter(is).length;
  const parts = (['tls', 'pinned', 'plain'] as const).flatMap((mode) => {
    const number = count((pair) => pair.ready && pair.mode === mode);
    return number === 0 ? [] : [`${number} ${mode}`];
  });
  const failing = count(({ mode, ready }) => mode !== null && !ready);
  const refused = count(({ mode }) => mode === null);
  if (failing > 0) parts.push(`${failing} would fail`);
  if (refused > 0) parts.push(`${refused} refused`);
  const how = probed ? 'with real handshakes' : 'from what hosts reported; --probe makes the handshakes, too';
  return `${pairs.length} pairs: ${parts.join(', ')} (${how})`;
}

/** Each thing that is wrong once, with the number of pairs that it is wrong for; of equal weight the most frequent first. */
function countFindings(pairs: readonly MatrixPair[]): CountedFinding[] {
  const found = new Map<string, { finding: Finding; pairs: Set<string> }>();
  for (const pair of pairs)
    for (const finding of pair.findings) {
      const key = JSON.stringify([finding.severity, finding.code, finding.host, finding.what]);
      const known = found.get(key) ?? { finding, pairs: new Set() };
      known.pairs.add(`${pair.from} to ${pair.to}`);
      found.set(key, known);
    }
  const byNumber = [...found.values()].toSorted((a, b) => b.pairs.size - a.pairs.size);
  return worstFirst(byNumber, ({ finding }) => finding.severity).map(({ finding, pairs: at }) => ({
    finding,
    where: at.size === 1 ? ([...at][0] ?? '') : `${at.size} pairs`,
  }));
}
