import type { MigrationRecord } from './store.ts';
import type { Virsh } from './virsh.ts';

const LOOK_MS = 1000;
/** How long a daemon that does not answer is waited for, in looks. */
const PATIENCE = 120;

/** How a migration ended whose virsh this agent has lost. */
export interface Outcome {
  readonly phase: 'done' | 'failed';
  readonly message?: string;
}

/**
 * Finds out what became of a migration that ran when the agent ended: as long as libvirt works on the VM it is
 * waited for; then a VM that runs here was not migrated, one that is gone was. Undefined where the agent ends again.
 */
export async function resolveInterrupted(
  virsh: Virsh,
  record: MigrationRecord,
  ending: () => boolean,
): Promise<Outcome | undefined> {
  const { vm } = record.order;
  for (let failures = 0; !ending(); ) {
    try {
      if (!(await virsh.hasJob(vm))) {
        const state = await virsh.state(vm);
        if (state !== undefined && state !== 'shut off')
          return {
            phase: 'failed',
            message: `the agent was restarted meanwhile; ${vm} still runs on this host (${state})`,
          };
        return { phase: 'done' };
      }
      failures = 0;
    } catch (error) {
      if (++failures >= PATIENCE)
        return {
          phase: 'failed',
          message: `the agent was restarted meanwhile, and libvirt does not answer where ${vm} runs: ${error instanceof Error ? error.message : error}`,
        };
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS).unref());
  }
  return undefined;
}
