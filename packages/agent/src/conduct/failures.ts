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

/** libvirt of a host is too old for an offline migration. */
export function noOffline({ vm }: MigrationOrder, host: string): TrustError {
  return new TrustError(
    'migration.offline',
    'failed',
    `cannot migrate ${vm}: libvirt of ${host} migrates no VM that is off`,
  );
}

/** Its definition is another than the one that was granted. */
export function vmChanged({ vm }: MigrationOrder): TrustError {
  return new TrustError(
    'migration.vm_changed',
    'conflict',
    `cannot migrate ${vm}: it was changed meanwhile`,
    {
      hint: 'try again',
    },
  );
}

/** It took longer than its order allows. */
export function timedOut({ vm, options }: MigrationOrder, ended: unknown): TrustError {
  return new TrustError(
    'migration.timeout',
    'failed',
    `cannot migrate ${vm}: it was not over after ${options.timeoutSeconds} s and was ended: ${describeError(ended)}`,
    {
      hint: 'give it more time (--timeout), or --auto-converge, --post-copy or --timeout-action suspend for a VM that writes faster than the network carries',
    },
  );
}

/** A stream through agents broke; libvirt knows only that it ended. */
export function streamBroke(ended: unknown, trouble: string): TrustError {
  return new TrustError('migration.stream', 'failed', `${describeError(ended)} (${trouble})`);
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
