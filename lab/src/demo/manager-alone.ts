import { homedir } from 'node:os';
import { join } from 'node:path';
import { saveCredentials } from '@virt-trust/cli/credentials.ts';
import type { RunningManager } from '@virt-trust/manager/manager.ts';
import { mayReplaceSaved, savedTokenWorks } from './credentials.ts';
import { startDemoManager } from './demo-manager.ts';
import type { Interruption } from './interruption.ts';
import type { StartOptions } from './options.ts';
import type { Steps } from './steps.ts';

const HOW = [
  'Add a host of yours from another terminal. It takes SSH as root to a Linux machine with libvirt and QEMU:',
  '  ./virt-trust host add NAME --ssh root@HOST            # shows its SSH host key and asks',
  '  ./virt-trust host add NAME --ssh root@HOST --observe  # looks and reports, changes nothing',
  '  ./virt-trust host list',
  '  ./virt-trust migrate VM --from NAME --to OTHER',
];

/** The manager without a lab, and how to add a host to it. */
export async function managerAlone(
  options: StartOptions,
  program: string,
  steps: Steps,
  interruption: Interruption,
): Promise<void> {
  const stateDirectory = aloneDirectory(process.getuid?.() === 0, process.env['XDG_STATE_HOME'], homedir());
  const manager = await steps.run('Start the manager', async ({ conclude }) => {
    const started = await startDemoManager({
      stateDirectory,
      port: options.port,
      program,
      constraints: { dns: [], subnets: [] },
    });
    conclude(`${started.url}, state in ${stateDirectory}`);
    return started;
  });
  try {
    await showToken(manager, steps);
    steps.line();
    for (const line of HOW) steps.line(line);
    if (options.exit) return;
    steps.line();
    steps.line('It serves until Ctrl-C.');
    await interruption.wait();
    steps.line();
  } finally {
    await steps.run('Stop the manager', manager.close);
  }
}

/** Where its state is: as the user says, else where `virt-trust serve` has it for root, else in the user's home. */
export function aloneDirectory(root: boolean, stateHome: string | undefined, home: string): string {
  if (root && !stateHome) return '/var/lib/virt-trust-manager';
  return join(stateHome || join(home, '.local', 'state'), 'virt-trust-manager');
}

async function showToken({ url, initialToken }: RunningManager, steps: Steps): Promise<void> {
  if (initialToken === undefined) {
    if (!(await savedTokenWorks(url)))
      steps.line(`  give a token of this manager to: ./virt-trust login --url ${url}`);
    return;
  }
  if (mayReplaceSaved()) {
    const file = saveCredentials({ url, token: initialToken });
    steps.line(`  the first administrator's token is saved in ${file}`);
    return;
  }
  steps.line(
    `  the first administrator's token, shown this once (give it to: ./virt-trust login --url ${url}):`,
  );
  steps.line(`  ${initialToken}`);
}
