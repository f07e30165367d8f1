import { readFileSync } from 'node:fs';
import { processesWith } from '@virt-trust/lab/orphans.ts';
import { TEST_RUN } from '@virt-trust/lab/record.ts';

/**
 * Ends every process whose environment has this run's mark, except this one: what a test that was cut off had started,
 * in whatever session or process group it is. Returns their command lines.
 */
export function endStragglers(run: string): string[] {
  const ended: string[] = [];
  for (const pid of processesWith(TEST_RUN, run)) {
    if (pid === process.pid) continue;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      process.kill(pid, 'SIGKILL');
      ended.push(command);
    } catch {
      // It ended by itself.
    }
  }
  return ended;
}
