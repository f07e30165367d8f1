import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { isLibvirtError } from './domain.ts';

/** The VM is not at the source. */
export function noDomain({ vm, from }: MigrationOrder): TrustError {
  return new TrustError(
    'migration.no_vm',
    'not-found',
    `Domain not found: libvirt of ${from} has no domain ${vm}`,
  );
}

/** Somebody wants it no more. */
export function cancelled({ vm }: MigrationOrder): TrustError {
  return new TrustError('migration.cancelled', 'failed', `cannot migrate ${vm}: it was cancelled`);
}

/** It was ended since nobody was left to take the VM: libvirt at the source knows of that no more than of a cancellation. */
export function destinationLost({ to }: MigrationOrder, ended: unknown, lost: unknown): TrustError {
  return new TrustError(
    'migration.destination_lost',
    'failed',
    `${describeError(ended)} (ended because libvirt of ${to} was lost meanwhile: ${describeError(lost)})`,
    {
      hint: `see whether libvirt runs on ${to} (systemctl status libvirtd, journalctl -u libvirtd) and is reached from here; then migrate again`,
    },
  );
}

/** `virErrorNumber` and `virErrorDomain`. */
const OPERATION_FAILED = 9;
const MIGRATE_FINISH_OK = 93;
const FROM_QEMU = 10;

/** As virDomainMigrateVersion3Full chooses: what the destination's QEMU died of says more than that the stream ended. */
export function betterOf(performed: unknown, finished: unknown): unknown {
  const codes = (error: unknown) => {
    return isLibvirtError(error)
      ? (error as TrustError<{ code: number; domain: number }>).context
      : undefined;
  };
  const [own, other] = [codes(performed), codes(finished)];
  const isVague = own?.domain === FROM_QEMU && own.code === OPERATION_FAILED;
  return isVague && other?.domain === FROM_QEMU && other.code !== MIGRATE_FINISH_OK ? finished : performed;
}
