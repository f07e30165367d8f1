import { readdirSync, readFileSync } from 'node:fs';
import { until } from './until.ts';

/** In the environment of what a process has on its way for its labs: the process's number. */
export const LAB_OWNER = 'VIRT_TRUST_LAB_OWNER';
const PATIENCE = 60_000;
const LOOKS = 2;

/** The processes whose environment has a variable with this value, in whatever session or process group they are. */
export function processesWith(name: string, value: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && hasVariable(entry, `${name}=${value}`))
    .map(Number);
}

/**
 * Ends what an owner that was killed had on its way: it would go on with its work beside whoever takes the lab up next.
 * What runs a host already is no part of it.
 */
export async function endOrphans(owner: number): Promise<void> {
  let left = LOOKS;
  await until(`end what process ${owner} left running`, PATIENCE, () => {
    const found = processesWith(LAB_OWNER, String(owner));
    for (const pid of found) kill(pid);
    // Who executes another program just now has no environment for a moment.
    left = found.length === 0 ? left - 1 : LOOKS;
    return left === 0 ? true : undefined;
  });
}

function hasVariable(pid: string, variable: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(variable);
  } catch {
    return false;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}
