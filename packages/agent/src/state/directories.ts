import { chmod, mkdir, stat } from 'node:fs/promises';
import type { AgentPaths } from './paths.ts';

/** Makes the directories of the agent's state with their modes; the paths of those that were not so before. */
export async function makeStateDirectories(paths: AgentPaths): Promise<string[]> {
  const changed: string[] = [];
  const wanted: readonly (readonly [string, number])[] = [
    // QEMU passes through these two to its credentials.
    [paths.state, 0o711],
    [paths.services, 0o711],
    [paths.agent, 0o700],
    [paths.identity, 0o700],
    [paths.events, 0o700],
    [paths.found, 0o700],
    [paths.effectiveEtc, 0o755],
  ];
  for (const [path, mode] of wanted) {
    const made = await mkdir(path, { recursive: true, mode });
    if (made === undefined && ((await stat(path)).mode & 0o7777) === mode) continue;
    await chmod(path, mode);
    changed.push(path);
  }
  return changed;
}
