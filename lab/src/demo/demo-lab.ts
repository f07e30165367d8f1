import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { Lab, sweep } from '../lab.ts';
import { ensurePackages, MACHINE_PACKAGES } from '../packages.ts';
import { tryLock } from '../process-lock.ts';
import { readRecord } from '../record.ts';
import { ensureRoot } from '../root.ts';
import { traces } from '../traces.ts';
import type { Steps } from './steps.ts';

export const HOSTS = ['host-a', 'host-b'];

/** Installs the packages that the machine lacks, and builds the root of the hosts if the cache lacks it. */
export async function prepareMachine(steps: Steps, signal: AbortSignal): Promise<void> {
  await steps.run(
    'Prepare the machine',
    async ({ progress, conclude }) => {
      const installed = await ensurePackages(MACHINE_PACKAGES, progress);
      const { kind } = await ensureRoot({ say: progress, signal });
      const made = [
        ...(installed.length === 0 ? [] : [`installed ${installed.join(' ')}`]),
        ...(kind === 'cached' ? [] : ["built the hosts' Debian"]),
      ];
      conclude(made.join(', ') || 'all is there');
    },
    signal,
  );
}

/** Boots the two hosts with the disks they had, if they had any. */
export function bootHosts(name: string, steps: Steps, signal: AbortSignal): Promise<Lab> {
  return steps.run(
    'Boot two hosts',
    async ({ progress, conclude }) => {
      const lab = await Lab.up({
        name,
        hosts: HOSTS,
        keepState: true,
        progress: ({ text }) => progress(text),
        signal,
      });
      conclude(lab.hosts.map((host) => `${host.name} ${host.address}`).join(', '));
      return lab;
    },
    signal,
  );
}

/** Shuts the hosts down if they are up, and looks whether anything of them is left. Throws `start.left_behind`. */
export async function takeDown(name: string, lab: Lab | undefined, steps: Steps): Promise<void> {
  const record = await readRecord(name);
  if (record === undefined || (lab === undefined && (await isInUse(name)))) return;
  await steps.run('Shut the hosts down', async () => {
    await (lab?.down() ?? sweep(name)).catch((cause: unknown) => {
      throw leftBehind(name, describeError(cause), cause);
    });
    const left = await traces(record);
    if (left.length > 0)
      throw leftBehind(name, `left is ${left.slice(0, 4).join('; ')}${left.length > 4 ? ' and more' : ''}`);
  });
  steps.line();
  steps.line('No process, mount, namespace or bridge is left. The next npm start goes on from this state.');
  steps.line(`To throw it away: ./virt-trust lab down --name ${name} --delete-state`);
}

/** Whether the lab of this name is another process's. */
async function isInUse(name: string): Promise<boolean> {
  const owned = await tryLock(`lab/${name}`);
  await owned?.release();
  return owned === undefined;
}

function leftBehind(name: string, reason: string, cause?: unknown): TrustError {
  return new TrustError('start.left_behind', 'failed', `cannot take the lab down: ${reason}`, {
    cause,
    hint: `./virt-trust lab sweep --name ${name}`,
  });
}
