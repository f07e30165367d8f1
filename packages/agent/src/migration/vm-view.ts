import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { LibvirtAccess, MigrationOrder, PreparedVm } from '@virt-trust/contract/model/migration.ts';
import type { DomainState } from '@virt-trust/libvirt/domain-state.ts';
import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';
import { openAccess } from '../conduct/access.ts';
import { readMigratable, stateOf } from '../conduct/domain.ts';
import { migrationFlags } from '../conduct/parameters.ts';
import type { RpcClient } from '../conduct/rpc-client.ts';
import type { AgentPaths } from '../paths.ts';

/** VMs as libvirt's RPC shows them. */
export interface VmView {
  /** The VM of an order as it would be migrated; throws `migration.no_vm`. */
  prepared(order: MigrationOrder): Promise<PreparedVm>;
  /** How a VM stands on this host; null where it is not here. */
  state(uuid: string): Promise<DomainState | null>;
}

/** Looks at VMs over the RPC of this host's libvirt, or over that of an order's source. */
export function libvirtVms(paths: AgentPaths, clock: Clock): VmView {
  const parts = { at: paths.at, clock, tls: null, peer: null };
  const using = async <T>(
    access: LibvirtAccess,
    where: string,
    work: (client: RpcClient) => Promise<T>,
  ): Promise<T> => {
    const client = await openAccess(access, where, parts);
    try {
      return await work(client);
    } finally {
      await client.close();
    }
  };
  return {
    prepared: (order) =>
      using(order.source, order.from, async (client) => {
        const { options } = order;
        const vm = await readMigratable(client, order.vm, {
          persistent: (migrationFlags(order) & MIGRATE_FLAGS.persistDestination) !== 0,
          copies: options.copyStorage !== 'none' && !options.offline,
          copyDisks: options.copyDisks,
        });
        if (vm === undefined) throw noVm(order);
        const { domain, xmlSha256, persistentXmlSha256, copiedDisks } = vm;
        return { uuid: domain.uuid, xmlSha256, persistentXmlSha256, copiedDisks };
      }),
    state: (uuid) => using({ kind: 'local' }, 'this host', (client) => stateOf(client, uuid)),
  };
}

function noVm({ vm, from }: MigrationOrder): TrustError {
  return new TrustError(
    'migration.no_vm',
    'not-found',
    `cannot migrate ${vm}: failed to get domain ${vm}: libvirt of ${from} has none of that name`,
    {
      hint: `see which are there: virsh -c qemu:///system list --all, on ${from}`,
    },
  );
}
