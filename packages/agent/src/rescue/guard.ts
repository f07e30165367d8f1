import { systemClock } from '@virt-trust/base/clock.ts';
import { agentPaths } from '../state/paths.ts';
import { Rescuer } from './rescuer.ts';

const BOUND_MS = 10_000;

/**
 * Looks before libvirt starts whether the time of every set is now, and lets VMs start where it is not. It never
 * fails and never takes long: libvirt waits for it at boot.
 */
export async function guardHost(say: (line: string) => void, root?: string): Promise<void> {
  const bound = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => bound.resolve(undefined), BOUND_MS);
  try {
    const outcome = await Promise.race([new Rescuer(agentPaths(root), systemClock).run(), bound.promise]);
    if (outcome === undefined) return say(`gave up after ${BOUND_MS / 1000} s`);
    for (const { service, reason } of outcome.made)
      say(`${service} goes on with a set of the host's own: ${reason}`);
    for (const service of outcome.ended) say(`${service} serves its own set again`);
    for (const failure of outcome.failed) say(`could not help ${failure}`);
  } finally {
    clearTimeout(timer);
  }
}
