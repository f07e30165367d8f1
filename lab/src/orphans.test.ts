import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { endOrphans, LAB_OWNER, processesWith } from './orphans.ts';

test('what a killed process had on its way is ended, and nothing of others', async () => {
  const command = JSON.stringify(new URL('command.ts', import.meta.url).href);
  const script = `import { exec } from ${command};
    exec(['sh', '-c', 'echo up; sleep 600; true'], { onLine: (line) => console.log(line), env: { PATH: process.env.PATH } });`;
  const start = () =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const owners = [start(), start()] as const;
  await Promise.all(owners.map(({ stdout }) => once(stdout, 'data')));
  const ended = owners.map((owner) => once(owner, 'exit'));
  for (const owner of owners) owner.kill('SIGKILL');
  await Promise.all(ended);
  const [one, other] = owners.map(({ pid }) => pid ?? 0);
  assert.ok(one !== undefined && other !== undefined);
  try {
    assert.notDeepEqual(processesWith(LAB_OWNER, String(one)), []);
    await endOrphans(one);
    assert.deepEqual(processesWith(LAB_OWNER, String(one)), []);
    assert.notDeepEqual(processesWith(LAB_OWNER, String(other)), []);
  } finally {
    await endOrphans(other);
  }
});
