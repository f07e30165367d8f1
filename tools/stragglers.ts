import { readdirSync, readFileSync } from 'node:fs';
import { TEST_RUN } from '@virt-trust/lab/record.ts';

/**
 * Ends every process whose environment has this run's mark, except this one: what a test that was cut off had started,
 * in whatever session or process group it is. Returns their command lines.
 */
export function endStragglers(run: string): string[] {
  const ended: string[] = [];
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    if (Number(pid) === process.pid || !hasMark(pid, run)) continue;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      process.kill(Number(pid), 'SIGKILL');
      ended.push(command);
    } catch {
      // It ended by itself.
    }
  }
  return ended;
}

function hasMark(pid: string, run: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`${TEST_RUN}=${run}`);
  } catch {
    return false;
  }
}
