import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EMPTY_CHAIN, followAuditChain } from '../audit/verify-audit.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import { settableClock, temporaryDirectory } from '../store/fixtures.ts';
import { openStore } from '../store/open-store.ts';
import { jobOf, over, startedRunner } from './fixtures.ts';

/** Runs the child until it says that it is there, and kills it there. */
async function killAt(t: TestContext, directory: string, where: string): Promise<void> {
  const program = fileURLToPath(new URL('crash-child.ts', import.meta.url));
  const child = spawn(process.execPath, [program, directory, where], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('the child ended by itself'))),
  ]);
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

test('a manager that is killed inside a transaction leaves nothing of it, and the audit chain holds', async (t) => {
  const directory = temporaryDirectory(t);
  await killAt(t, directory, 'transaction');
  const store = openStore(directory, settableClock());
  t.after(() => store.close());
  const audit = new SqliteAuditLog(store.database, settableClock());
  assert.deepEqual(await audit.list(0, 10), []);
  assert.deepEqual(store.database.all('select * from settings'), []);
  await audit.append([{ actor: 'a', action: 'b', subject: 'c', outcome: 'done', detail: '' }]);
  assert.equal(followAuditChain(EMPTY_CHAIN, await audit.list(0, 10)).problem, null);
});

test('a job that was running when the manager was killed runs again, knows what was remembered, and the next waits for it', async (t) => {
  const directory = temporaryDirectory(t);
  await killAt(t, directory, 'job');
  const store = openStore(directory, settableClock());
  t.after(() => store.close());
  const before = store.database.all('select state, steps from jobs order by sequence');
  assert.deepEqual(
    before.map((row) => row['state']),
    ['running', 'queued'],
  );
  assert.match(String(before[0]?.['steps']), /half way/);

  const order: number[] = [];
  const definition = jobOf(async ({ n }, context) => {
    const made = await context.step('first', () => context.recall('made'));
    await context.step('second', async (report) => report('all the way'));
    order.push(n);
    return JSON.stringify(made ?? null);
  });
  const runner = await startedRunner(t, store.database, definition);
  const [second, first] = await runner.list(undefined, 10);
  assert.ok(first && second);
  const [one, two] = [await over(runner, first.job.id), await over(runner, second.job.id)];
  assert.deepEqual([one.state, one.result], ['done', '{"serial":41}']);
  assert.deepEqual([two.state, two.result], ['done', 'null']);
  assert.deepEqual(order, [41, 42]);
  assert.deepEqual(
    one.steps.map(({ name, state, detail }) => [name, state, detail]),
    [
      ['first', 'done', ''],
      ['second', 'done', 'all the way'],
    ],
  );
});
