import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { HostVm } from '@virt-trust/contract/model/host-vm.ts';
import type { LibvirtAccess, MigrationOrder, PreparedVm } from '@virt-trust/contract/model/migration.ts';
import { VM_NAME } from '@virt-trust/contract/model/primitives.ts';
import type { DomainState } from '@virt-trust/libvirt/domain-state.ts';
import { LIBVIRT_TCP_PORT } from '@virt-trust/libvirt/layout.ts';
import { MIGRATE_FLAGS, type RemoteDomain } from '@virt-trust/libvirt/migration-protocol.ts';
import { openAccess } from '../conduct/access.ts';
import { listDomains, readMigratable, stateOf } from '../conduct/domain.ts';
import { migrationFlags } from '../conduct/parameters.ts';
import type { RpcClient } from '../conduct/rpc-client.ts';
import type { AgentPaths } from '../state/paths.ts';

const NAMEABLE = new RegExp(VM_NAME, 'u');

/** VMs as libvirt's RPC shows them. */
export interface VmView {
  /** The VM of an order as it would be migrated; throws `migration.no_vm`. */
  prepared(order: MigrationOrder): Promise<PreparedVm>;
  /** How a VM stands on this host; null where it is not here. */
  state(uuid: string): Promise<DomainState | null>;
  /** Every VM of this host, or of the libvirt at an address, over its plain TCP. */
  list(address: string | undefined): Promise<HostVm[]>;
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
    list: (address) =>
      using(
        address === undefined ? { kind: 'local' } : { kind: 'tcp', address, port: LIBVIRT_TCP_PORT },
        address === undefined ? 'this host' : 'the host',
        async (client) => (await listDomains(client)).flatMap(vmOf),
      ),
  };
}

/** One whose name nobody could say to us is left out. */
function vmOf({ name, uuid, id }: RemoteDomain): HostVm[] {
  return NAMEABLE.test(name) ? [{ uuid, name, active: id >= 0 }] : [];
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
