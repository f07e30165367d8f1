import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { HostVm } from '@virt-trust/contract/model/host-vm.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationContext } from './context.ts';
import type { MigrationEnd } from './migration-end.ts';
import { endOf } from './planning.ts';
import { vmsOf } from './vms-of-host.ts';

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

type NamingContext = Pick<MigrationContext, 'repository' | 'unmanaged'> & {
  readonly channels: Pick<MigrationContext['channels'], 'of'>;
};

/**
 * The order with the name of its VM where its UUID was given: grants, jobs and messages go by names. What looks like a UUID
 * is one first and a name then, as for virsh (`virshLookupDomainInternal`). Throws `migration.no_vm`, `host.*`.
 */
export async function withName(
  order: MigrateVm,
  context: NamingContext,
  signal: AbortSignal,
): Promise<MigrateVm> {
  if (!UUID.test(order.vm)) return order;
  const [from, to] = await Promise.all([endOf(order.from, context), endOf(order.to, context)]);
  const vms = await vmsOf(from, to, context, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    const seen = lastSeen(from).filter((one) => isMeant(one, order.vm));
    // What ran there when it was last seen has its name all the same; that the host is away is told by what comes.
    if (seen.length === 0 || !isTrustError(error)) throw error;
    return seen;
  });
  const uuid = order.vm.toLowerCase();
  const found = vms.find((one) => one.uuid === uuid) ?? vms.find(({ name }) => name === order.vm);
  if (found === undefined) throw noVm(order);
  return { ...order, vm: found.name };
}

function isMeant({ uuid, name }: Pick<HostVm, 'uuid' | 'name'>, word: string): boolean {
  return uuid === word.toLowerCase() || name === word;
}

function lastSeen(end: MigrationEnd): HostVm[] {
  if (end.kind === 'unmanaged') return [];
  return (end.host.inventory?.runningVms ?? []).map(({ uuid, name }) => ({ uuid, name, active: true }));
}

function noVm({ vm, from }: MigrateVm): TrustError {
  return new TrustError(
    'migration.no_vm',
    'not-found',
    `cannot migrate ${vm}: host ${from} has no VM of that UUID or name`,
    { hint: `see which are there: virsh -c qemu:///system list --all --uuid --name, on ${from}` },
  );
}
