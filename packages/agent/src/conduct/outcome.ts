import { isIP } from 'node:net';
import { describeError } from '@virt-trust/base/error.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import type { MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import {
  type MigrationOrder,
  type MigrationPhase,
  MigrationStep,
} from '@virt-trust/contract/model/migration.ts';
import { Uuid } from '@virt-trust/contract/model/primitives.ts';
import Type, { type Static } from 'typebox';

const strict = { additionalProperties: false };

/** How far a migration is, as a successor of the process that conducts it must know. */
export const Journal = Type.Object(
  {
    step: MigrationStep,
    /** The VM's, once it was found. */
    uuid: Type.Union([Uuid, Type.Null()]),
    /** Whether Finish may have reached the destination: only then may the VM run there. */
    finishSent: Type.Boolean(),
    /** Paused before the migration, so that nobody has it go on. */
    wasPaused: Type.Boolean(),
    isPostCopy: Type.Boolean(),
  },
  strict,
);
export type Journal = Static<typeof Journal>;

/** How a migration ended. */
export interface Outcome {
  readonly phase: Extract<Static<typeof MigrationPhase>, 'done' | 'failed' | 'cancelled' | 'operator-needed'>;
  readonly step: MigrationStatus['step'];
  readonly runsOn: NonNullable<MigrationStatus['runsOn']>;
  readonly error: { readonly message: string; readonly hint: string | null } | null;
}

type Interrupted = Pick<MigrationOrder, 'vm' | 'from' | 'to' | 'mode' | 'stream'> & {
  readonly uuid: string | null;
};

/**
 * What brings the rest of a VM's memory over after post-copy broke. Hosts have no standing client certificates for each
 * other's libvirt: it goes by SSH. QEMU keeps its TLS of before, and has none where agents carried its stream.
 */
function resumption({ vm, uuid, from, to, mode, stream }: Interrupted): string {
  const address = stream?.address ?? '';
  const where =
    stream === null ? '' : ` --migrateuri tcp://${isIP(address) === 6 ? `[${address}]` : address}`;
  const over = mode === 'tls' ? ' --tls' : '';
  const clear = mode === 'tls' ? '' : ', by which the rest of its memory goes in the clear';
  const stuck =
    mode === 'pinned'
      ? ''
      : `; if it is "running (post-copy)" on ${to}, QEMU there still waits for what was cut: before, on ${to}: ss -K 'sport >= :49152 and sport <= :49215', which cuts all that migrates there`;
  const word = virshDomain({ name: vm, uuid });
  return `on a machine that reaches both as root by SSH: virsh -c qemu+ssh://root@${from}/system migrate --live --postcopy --postcopy-resume${over}${where} ${word} qemu+ssh://root@${to}/system${clear}${stuck}`;
}

/** Nobody knows where the VM may run, or what it may do next: says what to look at and to type. */
export function operatorNeeded(
  order: Interrupted,
  place: 'unknown' | 'post-copy-unknown' | 'post-copy-failed' | 'source' | 'destination',
  step: MigrationStatus['step'],
  failure: unknown,
): Outcome {
  const { vm, uuid, from, to } = order;
  const virsh = (host: string, words: string) =>
    `on ${host}: virsh -c qemu:///system ${words} ${virshDomain({ name: vm, uuid })}`;
  const why = describeError(failure);
  const end = { phase: 'operator-needed', step } as const;
  switch (place) {
    case 'unknown':
      return {
        ...end,
        runsOn: 'unknown',
        error: {
          message: `cannot know whether ${vm} runs on ${to}; on ${from} it is left paused: ${why}`,
          hint: `look first, ${virsh(to, 'domstate --reason')}; if it runs there, ${virsh(from, 'destroy')}; only if it is not there, or is off, ${virsh(from, 'resume')}; never let it run on both`,
        },
      };
    case 'post-copy-unknown':
      return {
        ...end,
        runsOn: 'unknown',
        error: {
          message: `cannot know whether post-copy of ${vm} came to its end on ${to}; its memory may partly be on ${from} still, where it is left paused: ${why}`,
          hint: `never resume it on ${from}; look first, ${virsh(to, 'domstate --reason')}; running (migrated or unpaused): ${virsh(from, 'destroy')}; not there: it is lost, ${virsh(from, 'destroy')}, and start it anew; running or paused for post-copy: mend the network, then ${resumption(order)}`,
        },
      };
    case 'post-copy-failed':
      return {
        ...end,
        runsOn: 'unknown',
        error: {
          message: `post-copy of ${vm} broke: its memory is partly on ${from}, partly on ${to}, and it can run on neither alone: ${why}`,
          hint: `to give it up, ${virsh(to, 'destroy')}, then ${virsh(from, 'destroy')}, and start it anew; to lose nothing, once the hosts reach each other, ${resumption(order)}`,
        },
      };
    case 'destination':
      return {
        ...end,
        runsOn: 'destination',
        error: {
          message: `${vm} runs on ${to}, and what is left of it on ${from} could not be removed: ${why}`,
          hint: `never resume it on ${from}; there, ${virsh(from, 'destroy')}`,
        },
      };
    case 'source':
      return {
        ...end,
        runsOn: 'unknown',
        error: {
          message: `${vm} does not run on ${to}, and it is not known how it stands on ${from}: ${why}`,
          hint: `look, ${virsh(from, 'domstate --reason')}; if it is paused, ${virsh(from, 'resume')}`,
        },
      };
  }
}
