import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { TEST_RUN } from '@virt-trust/lab/record.ts';
import { endStragglers } from './stragglers.ts';

test('what a run left is ended in whatever session it is, and nothing of another run', async (t) => {
  const [one, another] = [randomUUID(), randomUUID()];
  const start = (run: string) =>
    // Whoever executes another program just now has no environment for a moment.
    spawn('sh', ['-c', 'echo up; read line'], {
      env: { ...process.env, [TEST_RUN]: run },
      detached: true,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
  const [left, other] = [start(one), start(another)];
  t.after(() => other.kill('SIGKILL'));
  await Promise.all([left, other].map((child) => once(child.stdout, 'data')));
  const exit = once(left, 'exit');
  assert.equal(endStragglers(one).length, 1);
  assert.deepEqual(await exit, [null, 'SIGKILL']);
  assert.equal(other.exitCode ?? other.signalCode, null);
  assert.deepEqual(endStragglers(one), []);
});
