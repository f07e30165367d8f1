import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { VERSION } from '@virt-trust/base/version.ts';
import type { AuthorityConstraints } from '@virt-trust/manager/authorities/internal-creation.ts';
import { DEFAULT_ANNOUNCE_PORT } from '@virt-trust/manager/hosts/announcements.ts';
import { createLog } from '@virt-trust/manager/log.ts';
import { type RunningManager, startManager } from '@virt-trust/manager/manager.ts';

const ADDRESS = '127.0.0.1';

/** Throws `start.port_taken` where the manager could not listen: better before hosts are booted than after. */
export async function checkPort(port: number): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: ADDRESS, port, exclusive: true }, resolve);
    });
  } catch (cause) {
    throw new TrustError(
      'start.port_taken',
      'conflict',
      `cannot serve the manager at ${ADDRESS} port ${port}: ${describeError(cause)}`,
      { cause, hint: 'is npm start running already? Else choose another port: npm start -- --port 16517' },
    );
  }
  await new Promise((resolve) => server.close(resolve));
}

export interface DemoManagerOptions {
  readonly stateDirectory: string;
  readonly port: number;
  readonly program: string;
  readonly constraints: AuthorityConstraints;
}

/** Starts the manager in this process, its log in a file in its state directory. */
export async function startDemoManager(options: DemoManagerOptions): Promise<RunningManager> {
  const { stateDirectory, port, program, constraints } = options;
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  const log = createWriteStream(logFile(stateDirectory), { flags: 'a', mode: 0o600 });
  // A log that cannot be written (a full disk, say) is no reason to stop.
  log.on('error', () => {});
  const manager = await startManager({
    stateDirectory,
    version: VERSION,
    listen: { address: ADDRESS, port },
    announceListen: { port: DEFAULT_ANNOUNCE_PORT },
    agentProgram: program,
    constraints,
    log: createLog('info', log),
  });
  return {
    ...manager,
    close: async () => {
      await manager.close();
      await new Promise((resolve) => log.end(resolve));
    },
  };
}

/** The file that the manager logs to. */
function logFile(stateDirectory: string): string {
  return join(stateDirectory, 'manager.log');
}
