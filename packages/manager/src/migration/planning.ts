import { TrustError } from '@virt-trust/base/error.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationDecision, MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import { chosenAddresses, type PairAddresses } from './chosen-addresses.ts';
import type { MigrationContext } from './context.ts';
import { decideMigration } from './decision.ts';
import { factsOf } from './facts.ts';
import { type MigrationEnd, managedEnd, unmanagedEnd } from './migration-end.ts';
import { optionsFor } from './options.ts';
import { vmsOf } from './vms-of-host.ts';

/** How a VM would migrate, from what is known, before anything is asked of a host. */
export interface PlannedMigration {
  readonly from: MigrationEnd;
  readonly to: MigrationEnd;
  readonly addresses: PairAddresses;
  readonly decision: MigrationDecision;
  readonly options: MigrationPlan['options'];
}

/** Decides from stored facts and settings; what is refused is in the answer. Throws for what is not there or makes no sense. */
export async function planMigration(order: MigrateVm, context: MigrationContext): Promise<PlannedMigration> {
  if (order.from === order.to)
    throw new TrustError(
      'migration.same_host',
      'invalid',
      `cannot migrate ${order.vm}: --from and --to are both ${order.from}`,
      { hint: 'name another host with --to' },
    );
  const [from, to] = await Promise.all([endOf(order.from, context), endOf(order.to, context)]);
  const { vm, from: _, to: __, mode, force: ___, ...wish } = order;
  const options = await optionsFor(
    wish,
    { name: from.name, cluster: from.host.cluster },
    context.settings,
    () => isOff(vm, from, to, context),
  );
  const [source, destination] = await Promise.all([factsOf(from, context), factsOf(to, context)]);
  const addresses = await chosenAddresses(vm, from, to, context.certificates);
  const conducted = source.kind === 'managed' ? 'libvirtAddress' : 'sourceAddress';
  const decision = decideMigration({
    vm,
    source,
    destination,
    requested: mode ?? null,
    addresses: { tls: addresses.tls[conducted], plain: addresses.plain[conducted] },
  });
  const chosen = decision.mode === 'plain' ? addresses.plain : addresses.tls;
  return { from, to, addresses: chosen, decision, options };
}

/** Whether the VM is off now; where nobody answers it counts as running, and the check of the pair says what is wrong. */
async function isOff(
  vm: string,
  from: MigrationEnd,
  to: MigrationEnd,
  context: Pick<MigrationContext, 'channels'>,
): Promise<boolean> {
  const vms = await vmsOf(from, to, context).catch(() => []);
  return vms.some(({ name, active }) => name === vm && !active);
}

/** Throws `migration.host_revoked` or `migration.refused`, with the whole explanation, where no mode is feasible. */
export async function assertFeasible(
  { decision, from, to }: PlannedMigration,
  context: Pick<MigrationContext, 'settings' | 'revocations'>,
): Promise<void> {
  if (decision.mode !== null) return;
  const hint = decision.hint === null ? {} : { hint: decision.hint };
  for (const end of [from, to]) {
    const { barred } = await factsOf(end, context);
    if (barred === null) continue;
    const removing = end.kind !== 'unmanaged' && end.host.state === 'removing';
    throw new TrustError(
      removing ? 'migration.refused' : 'migration.host_revoked',
      removing ? 'conflict' : 'denied',
      decision.explanation,
      removing
        ? hint
        : {
            hint: `once the host is trustworthy again, give it new certificates: virt-trust host provision ${end.name}`,
          },
    );
  }
  throw new TrustError('migration.refused', 'conflict', decision.explanation, hint);
}

/** What is told of it: what a preflight found is added where there was one. */
export function planOf(
  vm: string,
  { from, to, decision, addresses, options }: PlannedMigration,
): MigrationPlan {
  const { libvirtAddress, migrationAddress, interface: name } = addresses;
  return {
    vm,
    from: from.name,
    to: to.name,
    decision,
    addresses: decision.mode === null ? null : { libvirtAddress, migrationAddress, interface: name },
    options,
    findings: [],
    handshakes: [],
    ready: decision.mode !== null,
  };
}

/** The host of that name, with an agent or without one; throws `host.unknown`. */
export async function endOf(
  name: string,
  { repository, unmanaged }: Pick<MigrationContext, 'repository' | 'unmanaged'>,
): Promise<MigrationEnd> {
  const host = await repository.find(name);
  if (host !== null) return managedEnd(host);
  const other = await unmanaged.find(name);
  if (other !== null) return unmanagedEnd(other);
  throw new TrustError('host.unknown', 'not-found', `cannot find host ${name}: there is none of that name`, {
    hint: 'see them with: virt-trust host list',
  });
}
