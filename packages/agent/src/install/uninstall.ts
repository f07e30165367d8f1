import { lstat, readdir, readlink, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type RunHostCommand, runHostCommand } from '@virt-trust/check/host/host-command.ts';
import { Firewall } from '../firewall/firewall.ts';
import { removeFile } from '../state/atomic-file.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { Service } from './service.ts';

export interface UninstallOptions {
  readonly root?: string;
  readonly run?: RunHostCommand;
}

/**
 * Removes the agent from a host that was given back what was found on it: firewall rules, state, unit, program.
 * Again after a part of it, it does the rest. The service stops last, which ends the agent that calls this.
 */
export async function uninstallAgent(options: UninstallOptions = {}): Promise<void> {
  const { run = runHostCommand } = options;
  const paths = agentPaths(options.root);
  const service = new Service(basename(paths.unit), paths, run);
  await closeFirewall(paths, run);
  await new Service(basename(paths.guardUnit), paths, run).disable();
  await removeFile(paths.guardUnit);
  await service.disable();
  await removeFile(paths.unit);
  // Without a unit nothing starts the agent again, so from here on its state may go.
  await rm(paths.found, { recursive: true, force: true });
  await rm(paths.effectiveEtc, { recursive: true, force: true });
  await rm(paths.agent, { recursive: true, force: true });
  // What a running VM still reads stays, and says so in the removal's answer.
  await removeEmpty(paths.services);
  await removeEmpty(paths.state);
  await unlinkProgram(paths);
  await rm(paths.program, { force: true });
  await removeCutCopies(dirname(paths.program));
  await removeEmpty(dirname(paths.program));
  await removeRunDirectory(paths, run);
  await service.stop();
}

/** systemd keeps it beyond the service's end; a relay ends where its order is gone. */
async function removeRunDirectory({ run: directory }: AgentPaths, run: RunHostCommand): Promise<void> {
  await rm(directory, { recursive: true, force: true }).catch(async (error: NodeJS.ErrnoException) => {
    // In the service's own view of the host it is a mount point, which goes from outside alone.
    if (error.code !== 'EBUSY') throw error;
    await run('systemd-run', ['--quiet', '--collect', '--wait', 'rm', '-rf', '--', directory]);
  });
}

async function closeFirewall(paths: AgentPaths, run: RunHostCommand): Promise<void> {
  const firewall = new Firewall(paths, run);
  for (const what of await firewall.opened()) await firewall.close(what);
}

async function unlinkProgram(paths: AgentPaths): Promise<void> {
  const found = await lstat(paths.programLink).catch(() => undefined);
  if (found?.isSymbolicLink() && (await readlink(paths.programLink)) === paths.program)
    await removeFile(paths.programLink);
}

/** What a copy that was cut off left beside the program. */
async function removeCutCopies(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  for (const name of names)
    if (name.startsWith('.virt-trust.new')) await rm(join(directory, name), { force: true });
}

async function removeEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch((error: NodeJS.ErrnoException) => {
    // Busy is a directory that is a mount point, which is the administrator's.
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(error.code ?? '')) throw error;
  });
}
