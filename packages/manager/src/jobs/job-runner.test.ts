import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { Job } from '@virt-trust/contract/model/job.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import fc from 'fast-check';
import { temporaryStore } from '../store/fixtures.ts';
import { jobOf, over, startedRunner } from './fixtures.ts';

const order = (n: number, subject = 'h1') => ({ subject, payload: { n }, actor: 'token:ann' });

/** A place where work waits until the test lets it go on. */
function barrier() {
  const reached = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  return {
    reached: reached.promise,
    go: go.resolve,
    wait: () => {
      reached.resolve();
      return go.promise;
    },
  };
}

test('a job runs its steps, and each change of it is in the contract’s form', async (t) => {
  const { database } = temporaryStore(t);
  const definition = jobOf(async ({ n }, context) => {
    await context.step('one', async (report) => report('\u0000 half\n way'));
    context.progress({
      percent: 50,
      processedBytes: 1,
      remainingBytes: 1,
      totalBytes: 2,
      bytesPerSecond: 1,
      memory: null,
      disk: null,
      iteration: null,
      dirtyBytesPerSecond: null,
      estimatedSeconds: null,
      expectedDowntimeMs: null,
      elapsedMs: 0,
      stage: 'pre-copy',
    });
    return `n is ${n}`;
  });
  const runner = await startedRunner(t, database, definition);
  const { id } = await runner.enqueue(definition, order(7));
  const states = new Set<string>();
  for await (const { job } of runner.follow(id, new AbortController().signal)) {
    states.add(validatorOf(Job)(job, 'job').state);
  }
  const job = await runner.get(id);
  assert.equal(job.result, 'n is 7');
  assert.equal(job.progress?.percent, 50);
  assert.equal(job.steps[0]?.detail, '\ufffd half\n way');
  assert.ok(states.has('done'));
});

test('a job that fails keeps the code, the message and the way out, and the step that it failed in', async (t) => {
  const { database } = temporaryStore(t);
  const definition = jobOf((_, context) =>
    context.step('reach the host', async () => {
      throw new TrustError('host.away', 'unavailable', 'cannot reach h1: no route', { hint: 'start it' });
    }),
  );
  const runner = await startedRunner(t, database, definition);
  const job = await over(runner, (await runner.enqueue(definition, order(1))).id);
  assert.equal(job.state, 'failed');
  assert.deepEqual(job.error, {
    code: 'host.away',
    category: 'unavailable',
    message: 'cannot reach h1: no route',
    hint: 'start it',
  });
  assert.equal(job.steps[0]?.state, 'failed');
});

test('jobs of one subject run one after the other in order, those of others beside them, never more than allowed', async (t) => {
  const { database } = temporaryStore(t);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 3 }),
      async (subjects, concurrency) => {
        const running = new Set<string>();
        const finished: { subject: string; n: number }[] = [];
        const definition = jobOf(async ({ n }, context) => {
          assert.equal(running.has(context.subject), false);
          running.add(context.subject);
          assert.ok(running.size <= concurrency);
          await new Promise(setImmediate);
          running.delete(context.subject);
          finished.push({ subject: context.subject, n });
          return '';
        });
        const runner = await startedRunner(t, database, definition, concurrency);
        const jobs = await Promise.all(
          subjects.map((subject, n) => runner.enqueue(definition, order(n, subject))),
        );
        for (const { id } of jobs) assert.equal((await over(runner, id)).state, 'done');
        for (const subject of new Set(subjects)) {
          const own = finished.filter((job) => job.subject === subject).map(({ n }) => n);
          assert.deepEqual(
            own,
            own.toSorted((a, b) => a - b),
          );
        }
        await runner.close();
      },
    ),
    { numRuns: 15 },
  );
});

test('a job that locks two subjects waits for both, and what comes after it waits for it', async (t) => {
  const { database } = temporaryStore(t);
  const gate = barrier();
  const begun: number[] = [];
  const definition = jobOf(async ({ n }) => {
    begun.push(n);
    if (n === 1) await gate.wait();
    return '';
  });
  const runner = await startedRunner(t, database, definition);
  await runner.enqueue(definition, order(1, 'a'));
  await runner.enqueue(definition, { ...order(2, 'vm'), locks: ['a', 'b'] });
  const last = await runner.enqueue(definition, order(3, 'b'));
  await gate.reached;
  assert.deepEqual(begun, [1]);
  gate.go();
  await over(runner, last.id);
  assert.deepEqual(begun, [1, 2, 3]);
});

test('the same request under the same key makes one job, also when it comes twice at once; another request is refused', async (t) => {
  const { database } = temporaryStore(t);
  let runs = 0;
  const definition = jobOf(async () => String(++runs));
  const runner = await startedRunner(t, database, definition);
  const idempotencyKey = { owner: 'token', key: 'k', digest: 'd' };
  const jobs = await Promise.all(
    [1, 2, 3].map(() => runner.enqueue(definition, { ...order(1), idempotencyKey })),
  );
  assert.equal(new Set(jobs.map(({ id }) => id)).size, 1);
  await over(runner, jobs[0]?.id ?? '');
  assert.equal((await runner.enqueue(definition, { ...order(1), idempotencyKey })).state, 'done');
  assert.equal(runs, 1);
  const other = { ...idempotencyKey, digest: 'other' };
  await assert.rejects(runner.enqueue(definition, { ...order(2), idempotencyKey: other }), (error) =>
    isTrustError(error, 'request.idempotency_key_reused'),
  );
  await assert.rejects(runner.findByKey(other), (error) =>
    isTrustError(error, 'request.idempotency_key_reused'),
  );
  const others = { ...idempotencyKey, owner: 'another token', digest: 'other' };
  assert.notEqual(
    (await runner.enqueue(definition, { ...order(2), idempotencyKey: others })).id,
    jobs[0]?.id,
  );
});

test('a queued job is cancelled at once and lets the next one go; a running one is asked to stop', async (t) => {
  const { database } = temporaryStore(t);
  const gate = barrier();
  const definition = jobOf(async ({ n }, context) => {
    if (n === 1) await gate.wait();
    return context.step('next', async () => 'done');
  });
  const runner = await startedRunner(t, database, definition);
  const first = await runner.enqueue(definition, order(1));
  const second = await runner.enqueue(definition, order(2));
  await gate.reached;
  assert.equal((await runner.cancel(second.id, 'token:ann')).state, 'cancelled');
  assert.equal((await runner.cancel(first.id, 'token:ann')).state, 'running');
  gate.go();
  assert.equal((await over(runner, first.id)).state, 'cancelled');
  await assert.rejects(runner.cancel(first.id, 'token:ann'), (error) => isTrustError(error, 'job.over'));
  await assert.rejects(runner.cancel('nonsense', 'token:ann'), (error) => isTrustError(error, 'job.unknown'));
});

test('a job that must not stop half way is cancelled while queued only', async (t) => {
  const { database } = temporaryStore(t);
  const gate = barrier();
  const definition = jobOf(async ({ n }) => {
    if (n === 1) await gate.wait();
    return 'done';
  }, false);
  const runner = await startedRunner(t, database, definition);
  const first = await runner.enqueue(definition, order(1));
  const second = await runner.enqueue(definition, order(2));
  await gate.reached;
  await assert.rejects(runner.cancel(first.id, 'a'), (error) => isTrustError(error, 'job.not_cancellable'));
  assert.equal((await runner.cancel(second.id, 'a')).state, 'cancelled');
  gate.go();
  assert.equal((await over(runner, first.id)).state, 'done');
});

test('a job that the manager’s stop interrupts runs again at the next start; one that was to be cancelled is cancelled', async (t) => {
  const { database } = temporaryStore(t);
  let running = 0;
  const both = barrier();
  const stopped = jobOf(async (_, context) => {
    running += 1;
    if (running === 2) void both.wait();
    await new Promise((_, reject) =>
      context.signal.addEventListener('abort', () => reject(new Error('cut'))),
    );
    return '';
  });
  const before = await startedRunner(t, database, stopped);
  const again = await before.enqueue(stopped, order(1, 'a'));
  const cancelled = await before.enqueue(stopped, order(2, 'b'));
  await both.reached;
  await before.close();
  assert.equal((await before.get(again.id)).state, 'running');
  // As if the manager had stopped between keeping the wish and the job's end.
  database.run('update jobs set cancel_requested = 1 where id = ?', cancelled.id);

  const goesOn = jobOf((_, context) => context.step('again', async () => 'finished'));
  const after = await startedRunner(t, database, goesOn);
  assert.equal((await over(after, again.id)).result, 'finished');
  assert.equal((await over(after, cancelled.id)).state, 'cancelled');
});

test('jobs that have been over for long are forgotten with what they remembered', async (t) => {
  const { database } = temporaryStore(t);
  const definition = jobOf(async (_, context) => {
    await context.remember('k', [1, 'two', null]);
    return JSON.stringify(await context.recall('k'));
  });
  const runner = await startedRunner(t, database, definition);
  const job = await over(runner, (await runner.enqueue(definition, order(1))).id);
  assert.equal(job.result, '[1,"two",null]');
  await runner.prune(1);
  assert.equal((await runner.get(job.id)).id, job.id);
  await runner.prune(-1);
  await assert.rejects(runner.get(job.id), (error) => isTrustError(error, 'job.unknown'));
  assert.deepEqual(database.all('select * from job_memories'), []);
});

test('a job whose end cannot be kept because the disk is full runs again once there is room', async (t) => {
  const { database } = temporaryStore(t);
  const gate = barrier();
  const definition = jobOf(async () => {
    await gate.wait();
    return 'x'.repeat(8000);
  });
  const runner = await startedRunner(t, database, definition);
  const { id } = await runner.enqueue(definition, order(1));
  await gate.reached;
  const pages = Number(database.get('pragma page_count')?.['page_count']);
  database.all(`pragma max_page_count = ${pages}`);
  gate.go();
  await runner.close();
  assert.equal(database.get('select state from jobs')?.['state'], 'running');
  database.all('pragma max_page_count = 1000000');
  const after = await startedRunner(t, database, definition);
  assert.equal((await over(after, id)).state, 'done');
});
