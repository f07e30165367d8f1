import { TrustError } from '@virt-trust/base/error.ts';
import { shellWord } from '@virt-trust/base/shell-word.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import type { MigrateVm, MigrationStatus } from '@virt-trust/contract/model/migration.ts';

type Ordered = Pick<MigrateVm, 'vm' | 'from' | 'to'>;

/** What came of a migration that is over, for people; throws where the VM is not where it was to go. */
export function concluded(order: Ordered, status: MigrationStatus): string {
  const { vm, from, to } = order;
  switch (status.phase) {
    case 'done':
      return `${vm} ${isDefinition(status) ? 'is defined' : 'runs'} on ${to}; ${describeProof(status)}`;
    case 'cancelled':
      throw new TrustError(
        'migration.cancelled',
        'failed',
        `cannot migrate ${vm}: it was cancelled; ${whereIs(order, status)}`,
      );
    case 'operator-needed':
      throw new TrustError(
        'migration.operator_needed',
        'failed',
        `cannot finish the migration of ${vm} from ${from} to ${to}${inPhase(status)}: ${said(status)}; ${whereIs(order, status)}`,
        { hint: status.error?.hint || whatToType(order) },
      );
    case 'failed':
    case 'requested':
    case 'running':
      throw new TrustError(
        'migration.failed',
        'failed',
        `cannot migrate ${vm} from ${from} to ${to}${inPhase(status)}: ${said(status)}; ${whereIs(order, status)}`,
        {
          hint:
            status.error?.hint ||
            `see what would fail: virt-trust migrate ${shellWord(vm)} --from ${from} --to ${to} --plan`,
        },
      );
  }
}

function inPhase({ step }: MigrationStatus): string {
  return step === null ? '' : ` in phase ${step}`;
}

/** libvirt's own words, in full. */
function said({ error }: MigrationStatus): string {
  return error?.message ?? 'libvirt did not say why';
}

function whereIs({ vm, from, to }: Ordered, { runsOn }: MigrationStatus): string {
  switch (runsOn) {
    case 'source':
      return `${vm} is on ${from} as before`;
    case 'destination':
      return `${vm} is on ${to}`;
    case 'neither':
      return `${vm} runs on neither host`;
    case 'unknown':
      return `nobody can say where ${vm} runs: it is paused on ${from}`;
    case null:
      return `see where ${vm} is: virt-trust host show ${from}, virt-trust host show ${to}`;
  }
}

function whatToType({ vm, from, to }: Ordered): string {
  const word = virshDomain({ name: vm, uuid: null });
  return `look on ${to}: virsh domstate --reason ${word}. Where it runs there, end it on ${from}: virsh destroy ${word}. Where it is not there for certain, let it go on on ${from}: virsh resume ${word}. Never both`;
}

/** The VM is off: nothing of QEMU's moved. */
function isDefinition({ phase, runsOn }: MigrationStatus): boolean {
  return phase === 'done' && runsOn === 'neither';
}

const DEFINITION_WENT: Readonly<Record<MigrationStatus['mode'], string>> = {
  tls: "its definition went over libvirt's TLS",
  pinned: 'its definition went through the channel between the agents',
  plain: "its definition went over libvirt's plain TCP, in the clear",
};

/** What was seen to carry it. */
export function describeProof(status: MigrationStatus): string {
  const { mode, proof } = status;
  if (isDefinition(status)) return DEFINITION_WENT[mode];
  const connection = proof?.connection;
  const way =
    connection === undefined
      ? ''
      : ` from ${connection.from} (${connection.interface ?? 'no interface'}) to ${connection.to}`;
  switch (mode) {
    case 'tls':
      return proof === null || proof.tlsCreds === ''
        ? "done in mode tls; it was over before QEMU's TLS objects could be seen"
        : `QEMU's stream ran${way} with ${proof.tlsCreds}, verifying ${proof.tlsHostname || 'the host of the URI'}`;
    case 'pinned':
      return proof?.channel === undefined
        ? 'done in mode pinned; it was over before its streams could be seen'
        : `${proof.channel.streams === 1 ? '1 stream' : `${proof.channel.streams} streams`} ran between the agents with ${proof.channel.group}, the other's key being ${proof.channel.peerPin}`;
    case 'plain':
      return `QEMU's stream ran${way} in the clear`;
  }
}
