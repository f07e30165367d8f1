import { TrustError } from '@virt-trust/base/error.ts';
import type { PortRange } from './opening.ts';

/** A base chain on the input hook that drops what none of its rules accepts. */
export interface InputChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
}

/** A rule with a comment of virt-trust's, as it is in the kernel. */
export interface OwnRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly handle: number;
  readonly comment: string;
  /** Null where it matches no source address. */
  readonly source: string | null;
  /** Null where it matches no port, which no rule of ours does. */
  readonly ports: PortRange | null;
}

const FAMILIES = new Set(['inet', 'ip', 'ip6']);

/** Reads the output of `nft -j list ruleset`; throws `firewall.malformed_ruleset`. */
export function parseRuleset(output: string): { dropping: InputChain[]; own: OwnRule[] } {
  const entries = entriesOf(output);
  const chains: (InputChain & { dropsByPolicy: boolean })[] = [];
  const closedByRule = new Set<string>();
  const own: OwnRule[] = [];
  for (const entry of entries) {
    const chain = record(record(entry)?.['chain']);
    if (chain !== undefined && chain['hook'] === 'input') {
      const place = placeOf(chain, 'name');
      if (place !== undefined && FAMILIES.has(place.family))
        chains.push({ ...place, dropsByPolicy: chain['policy'] === 'drop' });
    }
    const rule = record(record(entry)?.['rule']);
    const place = rule === undefined ? undefined : placeOf(rule, 'chain');
    if (rule === undefined || place === undefined) continue;
    if (isUnconditionalDrop(rule['expr'])) closedByRule.add(keyOf(place));
    const { comment, handle } = rule;
    if (typeof comment === 'string' && comment.startsWith('virt-trust:') && Number.isSafeInteger(handle)) {
      const { family, table, name } = place;
      own.push({
        family,
        table,
        chain: name,
        handle: handle as number,
        comment,
        ...readMatches(rule['expr']),
      });
    }
  }
  const dropping = chains
    .filter((chain) => chain.dropsByPolicy || closedByRule.has(keyOf(chain)))
    .map(({ family, table, name }) => ({ family, table, name }));
  return { dropping, own };
}

function entriesOf(output: string): readonly unknown[] {
  let cause: unknown;
  try {
    const entries = record(JSON.parse(output))?.['nftables'];
    if (Array.isArray(entries)) return entries;
  } catch (error) {
    cause = error;
  }
  throw new TrustError(
    'firewall.malformed_ruleset',
    'failed',
    'cannot read the output of nft -j list ruleset: not the JSON of a ruleset',
    { cause },
  );
}

function placeOf(value: Record<string, unknown>, nameKey: 'name' | 'chain'): InputChain | undefined {
  const { family, table } = value;
  const name = value[nameKey];
  if (typeof family !== 'string' || typeof table !== 'string' || typeof name !== 'string') return undefined;
  return { family, table, name };
}

/** A last rule that drops or rejects the rest, as many write it with the policy accept. */
function isUnconditionalDrop(expr: unknown): boolean {
  if (!Array.isArray(expr) || expr.length === 0) return false;
  const statements = expr.map((statement) => record(statement));
  const last = statements.at(-1);
  if (last === undefined || !('drop' in last || 'reject' in last)) return false;
  return statements.slice(0, -1).every((each) => each !== undefined && ('counter' in each || 'log' in each));
}

function readMatches(expr: unknown): { source: string | null; ports: PortRange | null } {
  let source: string | null = null;
  let ports: PortRange | null = null;
  for (const statement of Array.isArray(expr) ? expr : []) {
    const match = record(record(statement)?.['match']);
    const field = record(record(match?.['left'])?.['payload'])?.['field'];
    if (field === 'saddr' && typeof match?.['right'] === 'string') source = match['right'];
    if (field === 'dport') ports = readPorts(match?.['right']);
  }
  return { source, ports };
}

function readPorts(right: unknown): PortRange | null {
  if (typeof right === 'number') return { from: right, to: right };
  const range = record(right)?.['range'];
  if (!Array.isArray(range) || typeof range[0] !== 'number' || typeof range[1] !== 'number') return null;
  return { from: range[0], to: range[1] };
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

function keyOf({ family, table, name }: InputChain): string {
  return `${family} ${table} ${name}`;
}
