import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import { collect } from '../hosts/collect.ts';
import type { JobContext } from '../jobs/job.ts';
import type { MigrationContext } from './context.ts';

const LOOK_MS = 20_000;

/** The error of a migration of which nobody says how it ended, with what both hosts show of the VM now. */
export async function vmIsWhere(
  { vm, from, to }: MigrationPlan,
  why: string,
  context: MigrationContext,
  job: JobContext,
): Promise<TrustError> {
  const seen = await Promise.all([from, to].map((name) => look(name, vm, context, job)));
  return new TrustError(
    'migration.outcome_unknown',
    'failed',
    `cannot say how the migration of ${vm} from ${from} to ${to} ended: ${why}; ${seen.join('; ')}`,
    {
      hint: `look at the VM on both hosts (virsh domstate --reason ${virshDomain({ name: vm, uuid: null })}) before you migrate it again`,
    },
  );
}

async function look(name: string, vm: string, context: MigrationContext, job: JobContext): Promise<string> {
  try {
    const limit = AbortSignal.any([job.signal, AbortSignal.timeout(LOOK_MS)]);
    const { inventory } = await collect(name, context, limit);
    const state = inventory?.runningVms.find((one) => one.name === vm)?.state;
    return state === undefined ? `it does not run on ${name}` : `on ${name} it is ${state}`;
  } catch (error) {
    job.signal.throwIfAborted();
    return `nobody says what is on ${name}: ${describeError(error)}`;
  }
}
