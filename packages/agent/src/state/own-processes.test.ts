import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryRoot } from '../fixtures.ts';
import { ownProcesses } from './own-processes.ts';
import { agentPaths } from './paths.ts';

const ID = 'e3b0c442-98fc-4c14-9afb-f4c8996fb924';
/** proc_pid_stat(5), with a name that has what separates fields. */
const statOf = (state: string, began: number) =>
  `77 (virt) trust) ${state} ${Array.from({ length: 18 }, () => 0).join(' ')} ${began} 0\n`;

test('systemd is asked once whether a process of ours runs, and again only when that process is not there any more', async (t) => {
  const root = await temporaryRoot(t);
  await mkdir(join(root, 'run/systemd/system'), { recursive: true });
  await mkdir(join(root, 'proc/77'), { recursive: true });
  const stat = join(root, 'proc/77/stat');
  await writeFile(stat, statOf('S', 1000));
  let asked = 0;
  let answer = 'MainPID=77\nActiveState=active\n';
  const run = async (_program: string, args: readonly string[]) => {
    asked++;
    assert.ok(args.includes(`unit-${ID}.service`));
    return { stdout: answer, stderr: '', code: 0 };
  };
  const processes = await ownProcesses(agentPaths(root), run, { word: 'relay', unit: 'unit' });
  assert.equal(await processes.isRunning(ID), true);
  assert.equal(await processes.isRunning(ID), true);
  assert.equal(asked, 1);

  // Another process has its number now.
  answer = 'MainPID=0\nActiveState=inactive\n';
  await writeFile(stat, statOf('S', 2000));
  assert.equal(await processes.isRunning(ID), false);
  assert.equal(asked, 2);

  // systemd starts it again.
  answer = 'MainPID=0\nActiveState=activating\n';
  assert.equal(await processes.isRunning(ID), true);
  answer = 'MainPID=77\nActiveState=active\n';
  assert.equal(await processes.isRunning(ID), true);
  assert.equal(asked, 4);

  for (const gone of ['zombie', 'no entry']) {
    answer = 'MainPID=77\nActiveState=active\n';
    await writeFile(stat, statOf('S', 3000));
    assert.equal(await processes.isRunning(ID), true);
    if (gone === 'zombie') await writeFile(stat, statOf('Z', 3000));
    else await rm(stat);
    answer = 'MainPID=0\nActiveState=failed\n';
    assert.equal(await processes.isRunning(ID), false, gone);
  }
});
