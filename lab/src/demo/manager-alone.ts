import { homedir } from 'node:os';
import { join } from 'node:path';
import { saveCredentials } from '@virt-trust/cli/credentials.ts';
import type { RunningManager } from '@virt-trust/manager/manager.ts';
import { mayReplace } from './credentials.ts';
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
    showToken(manager, steps);
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

/** The same place as that of `virt-trust serve` for root, and a user's own for others. */
function aloneDirectory(root: boolean, stateHome: string | undefined, home: string): string {
  if (root) return '/var/lib/virt-trust-manager';
  return join(stateHome || join(home, '.local', 'state'), 'virt-trust-manager');
}

function showToken({ url, initialToken }: RunningManager, steps: Steps): void {
  if (initialToken === undefined) return;
  if (mayReplace(url)) {
    steps.line(
      `  the token of the first administrator is saved in ${saveCredentials({ url, token: initialToken })}`,
    );
    return;
  }
  steps.line("  the first administrator's token, shown this once (give it to: ./virt-trust login):");
  steps.line(`  ${initialToken}`);
}
