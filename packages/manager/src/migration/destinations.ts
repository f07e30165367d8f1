import { TrustError } from '@virt-trust/base/error.ts';
import type { EvacuateHost, MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { Host } from '../hosts/host.ts';
import type { MigrationContext } from './context.ts';
import { type PlannedMigration, planMigration } from './planning.ts';

/** A host that VMs may go to, and how. */
export interface Destination {
  readonly name: string;
  readonly planned: PlannedMigration;
  /** That run there now; more where that is not known. */
  readonly vms: number;
}

/** VMs of a host without an agent nobody counts: it comes last. */
const UNKNOWN = Number.MAX_SAFE_INTEGER;

/**
 * Where VMs of a host may go: to those that were named, or else to the secured hosts of its cluster whose agent is
 * there; only those for which a mode is feasible, the safest mode first and then those with the fewest VMs. Throws
 * `migration.no_destination`, with why not, where there is none.
 */
export async function destinationsOf(
  from: Host,
  order: EvacuateHost,
  vm: string,
  context: MigrationContext,
): Promise<readonly Destination[]> {
  const all = await context.repository.list();
  const names = order.to ?? all.filter((host) => isChosen(host, from, context)).map(({ name }) => name);
  const judged = await Promise.all(
    names.map(async (to) => {
      const host = all.find(({ name }) => name === to);
      const vms = host?.inventory?.runningVms.length ?? UNKNOWN;
      return { name: to, planned: await planMigration(vmOrder(from.name, to, vm, order), context), vms };
    }),
  );
  const feasible = judged.filter(({ planned }) => planned.decision.mode !== null);
  if (feasible.length === 0) throw noDestination(from, judged);
  return feasible.toSorted((a, b) => rankOf(a) - rankOf(b) || a.vms - b.vms);
}

/** The order by which one VM goes, which runs: whatever the settings say of those that are off. */
export function vmOrder(from: string, to: string, vm: string, order: EvacuateHost): MigrateVm {
  const { to: _, concurrency: __, ...rest } = order;
  return { offline: false, ...rest, vm, from, to };
}

function isChosen(host: Host, from: Host, { channels }: MigrationContext): boolean {
  return (
    host.id !== from.id &&
    host.cluster === from.cluster &&
    host.state === 'secured' &&
    !host.observeOnly &&
    host.revoked === undefined &&
    channels.stateOf(host.id)?.kind === 'up'
  );
}

function rankOf({ planned: { decision } }: Destination): number {
  return decision.mode === null ? decision.order.length : decision.order.indexOf(decision.mode);
}

function noDestination(from: Host, judged: readonly Destination[]): TrustError {
  const why = judged.map(({ name, planned }) => `${name}: ${planned.decision.explanation}`);
  return new TrustError(
    'migration.no_destination',
    'conflict',
    `cannot empty ${from.name}: ${why.join('; ') || `no other host of cluster ${from.cluster} is secured and there`}`,
    { hint: 'name others with --to, or see what they lack: virt-trust migrate --matrix' },
  );
}
