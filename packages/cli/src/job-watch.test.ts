import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { exitCodeOf } from './exit-code.ts';
import { failureOf, jobChanges } from './job-watch.ts';
import type { ManagerClient } from './manager-client.ts';

const JOB: Job = {
  id: '9311143d-3d2f-4fb0-9207-575cc0c53aea',
  kind: 'migrate',
  subject: 'web from kvm1 to kvm2',
  state: 'running',
  steps: [],
  progress: null,
  result: null,
  migration: null,
  plan: null,
  warnings: [],
  error: null,
  createdAt: 0,
  finishedAt: null,
};

/** A manager whose stream of events breaks after the first one; then it answers so. */
function breaking(answer: () => Promise<Job>): ManagerClient {
  return {
    call: answer as never,
    events: async function* () {
      yield JOB;
      throw new TypeError('terminated');
    },
  };
}

async function follow(client: ManagerClient): Promise<Job[]> {
  return await Array.fromAsync(jobChanges(client, JOB, new AbortController().signal));
}

test('a manager that dies while a job is followed is told of, with how to follow it on', async () => {
  const away = new TrustError('cli.manager_away', 'unavailable', 'cannot reach the manager: ECONNREFUSED');
  await assert.rejects(follow(breaking(() => Promise.reject(away))), (error) => {
    assert.ok(isTrustError(error));
    assert.equal(error.code, 'cli.stream_cut');
    assert.match(error.message, /^cannot follow job 9311143d\S+: cannot reach the manager: ECONNREFUSED$/);
    assert.match(error.hint ?? '', /virt-trust job watch 9311143d/);
    return true;
  });
});

test('a job that was over when its stream broke ends as the manager says', async () => {
  const done: Job = { ...JOB, state: 'done', finishedAt: 1 };
  assert.deepEqual(await follow(breaking(() => Promise.resolve(done))), [JOB, done]);
});

test("a job's failure ends the command as its error does anywhere; of an earlier version's it is plainly failed", () => {
  const error = { code: 'host.channel_down', message: 'cannot reach host kvm1', hint: null };
  const exits = (category: 'unavailable' | 'conflict' | 'internal' | 'failed') =>
    exitCodeOf(failureOf({ ...JOB, state: 'failed', error: { ...error, category } }));
  assert.deepEqual(
    [exits('unavailable'), exits('conflict'), exits('failed'), exits('internal')],
    [6, 4, 1, 70],
  );
  assert.equal(exitCodeOf(failureOf({ ...JOB, state: 'failed', error })), 1);
  assert.equal(exitCodeOf(failureOf({ ...JOB, state: 'cancelled' })), 1);
});
