import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { HostVm } from '@virt-trust/contract/model/host-vm.ts';
import type { MigrationOrder, MigrationStatus, PreparedVm } from '@virt-trust/contract/model/migration.ts';

/** Migrations from this host. */
export interface Migrations {
  create(order: MigrationOrder): Promise<{ csr: string | null; vm: PreparedVm }>;
  start(id: string, certificate: string | null): Promise<MigrationStatus>;
  /** Waits up to `waitMs` for a change of phase or progress. */
  get(id: string, waitMs: number, signal: AbortSignal): Promise<MigrationStatus>;
  cancel(id: string): Promise<MigrationStatus>;
  /** The VMs of this host, or of the libvirt at an address. */
  list(address: string | undefined): Promise<{ vms: HostVm[] }>;
  /** Where the VM of a grant stands on this host, as libvirt says it, and how its migration from here does. */
  vmState(
    grant: Grant,
  ): Promise<{ state: string | null; reason: string; phase: MigrationStatus['phase'] | null }>;
  close(): Promise<void>;
}
