import { randomUUID } from 'node:crypto';
import { sweep } from './lab.ts';
import { lock, tryLock } from './process-lock.ts';
import { allRecords, type LabRecord, TEST_RUN } from './record.ts';

/** Names the run that this process and all that it starts belong to, until it ends. */
export async function beginTestRun(): Promise<string> {
  const run = randomUUID();
  await lock(lockName(run));
  process.env[TEST_RUN] = run;
  return run;
}

/** Takes away every lab, its disks too, of a run whose process is gone, and of the one given; returns their names. */
export async function sweepTestRuns(over?: string): Promise<string[]> {
  const swept: string[] = [];
  for (const record of await allRecords()) {
    const { name, testRun } = record;
    if (testRun === undefined || (testRun !== over && !(await isOver(testRun)))) continue;
    await endOwner(record);
    await sweep(name, { deleteState: true });
    swept.push(name);
  }
  return swept;
}

async function isOver(run: string): Promise<boolean> {
  const free = await tryLock(lockName(run));
  await free?.release();
  return free !== undefined;
}

/** A process that the run started may have the lab still, and would put up again what is taken down. */
async function endOwner({ name, owner }: LabRecord): Promise<void> {
  const free = await tryLock(`lab/${name}`);
  await free?.release();
  if (free !== undefined || owner === 'detached' || owner === process.pid) return;
  try {
    process.kill(owner, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
  await (await lock(`lab/${name}`)).release();
}

const lockName = (run: string) => `test-run/${run}`;
