import type { Credentials } from '@virt-trust/cli/credentials.ts';
import { managerClient } from '@virt-trust/cli/manager-client.ts';
import { getHost } from '@virt-trust/contract/manager/host-operations.ts';
import { PURPOSES } from '@virt-trust/contract/model/service.ts';
import type { RunningManager } from '@virt-trust/manager/manager.ts';
import type { Lab } from '../lab.ts';
import { keepToken, keptToken, logIn, managerDirectory } from './credentials.ts';
import { addLabHost, finishEarlierJobs, giveRoles } from './demo-hosts.ts';
import { bootHosts, HOSTS, prepareMachine, takeDown } from './demo-lab.ts';
import { startDemoManager } from './demo-manager.ts';
import { consoleAuthorityFile, migrateDemoVm, proveDisplay, startDemoVm, VM } from './demo-vm.ts';
import type { Interruption } from './interruption.ts';
import type { StartOptions } from './options.ts';
import type { Steps } from './steps.ts';
import { nextCommands, type Outcome, showNext, showState } from './summary.ts';

/** The main job on the lab: all is taken down again at its end, however it ends. */
export async function mainJobOnLab(
  options: StartOptions,
  program: string,
  steps: Steps,
  interruption: Interruption,
): Promise<void> {
  const { signal } = interruption;
  let lab: Lab | undefined;
  let manager: RunningManager | undefined;
  try {
    await prepareMachine(steps, signal);
    lab = await bootHosts(options.name, steps, signal);
    const served = await startManagerOf(lab, options, program, steps, signal);
    manager = served.manager;
    if (manager.initialToken !== undefined)
      await giveRoles(managerClient(served.credentials), lab, steps, signal);
    const outcome = await mainJob(lab, served.credentials, steps, signal);
    const preparation = logIn(lab.name, served.credentials);
    showState(outcome, steps);
    if (!options.exit) {
      showNext(preparation, nextCommands(outcome), steps);
      steps.line();
      steps.line('All of it stays up until Ctrl-C.');
      await interruption.wait();
    }
    steps.line();
  } finally {
    try {
      if (manager !== undefined) await steps.run('Stop the manager', manager.close);
    } finally {
      await takeDown(options.name, lab, steps);
    }
  }
}

interface ServedManager {
  readonly manager: RunningManager;
  readonly credentials: Credentials;
}

function startManagerOf(
  lab: Lab,
  options: StartOptions,
  program: string,
  steps: Steps,
  signal: AbortSignal,
): Promise<ServedManager> {
  return steps.run(
    'Start the manager',
    async ({ conclude }) => {
      const token = await keptToken(lab.name);
      const manager = await startDemoManager({
        stateDirectory: managerDirectory(lab.name),
        port: options.port,
        program,
        // Nothing that its authorities sign is worth anything outside of this lab.
        constraints: { dns: HOSTS, subnets: lab.ranges },
      });
      try {
        const credentials = { url: manager.url, token: manager.initialToken ?? token ?? '' };
        await keepToken(lab.name, credentials, signal);
        conclude(`${manager.url}, authorities for ${PURPOSES.join(', ')}`);
        return { manager, credentials };
      } catch (error) {
        await manager.close();
        throw error;
      }
    },
    signal,
  );
}

async function mainJob(
  lab: Lab,
  credentials: Credentials,
  steps: Steps,
  signal: AbortSignal,
): Promise<Outcome> {
  const client = managerClient(credentials);
  await finishEarlierJobs(client, steps, signal);
  for (const host of lab.hosts) await addLabHost(client, lab, host, steps, signal);
  const { from, to, display } = await steps.under('Start a VM and migrate it live', async () => {
    const from = await startDemoVm(client, lab, steps, signal);
    await proveDisplay(client, lab, from, steps, signal);
    const to = await migrateDemoVm(client, lab, from, steps, signal);
    return { from, to, display: await proveDisplay(client, lab, to, steps, signal) };
  });
  return {
    lab: lab.name,
    hosts: await Promise.all(
      lab.hosts.map(({ name }) => client.call(getHost, { params: { name } }, { signal })),
    ),
    vm: VM,
    at: to.name,
    from: from.name,
    display,
    consoleAuthority: consoleAuthorityFile(lab.name),
  };
}
