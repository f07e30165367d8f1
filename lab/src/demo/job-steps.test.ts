import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { ManagerClient } from '@virt-trust/cli/manager-client.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { showJob } from './job-steps.ts';
import { Steps } from './steps.ts';

const JOB: Job = {
  id: '6f1c1d7e-53c5-4f0c-9f5e-0a4f0f6f5f11',
  kind: 'host-add',
  subject: 'host-a',
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

function step(name: string, state: Job['steps'][number]['state'], startedAt: number): Job['steps'][number] {
  return { name, state, detail: '', startedAt, finishedAt: state === 'running' ? null : startedAt + 100 };
}

async function shown(changes: readonly Partial<Job>[], since = 0) {
  const client: ManagerClient = {
    call: () => assert.fail('the stream says it all'),
    async *events() {
      for (const change of changes) yield { ...JOB, ...change };
    },
  };
  const written: string[] = [];
  const steps = new Steps({ isTTY: false, columns: 80, write: (text) => written.push(text) });
  const outcome = await showJob(client, JOB, steps, new AbortController().signal, since).catch(
    (error: unknown) => error,
  );
  return { text: written.join(''), outcome };
}

test('each step of a job is shown once, when it is over', async () => {
  const first = step('Log in', 'done', 1);
  const { text, outcome } = await shown([
    { steps: [step('Log in', 'running', 1)] },
    { steps: [first, step('Copy', 'running', 2)] },
    { steps: [first, step('Copy', 'done', 2)] },
    { steps: [first, step('Copy', 'done', 2)], state: 'done' },
  ]);
  assert.equal(text, '✔ Log in (0.1 s)\n✔ Copy (0.1 s)\n');
  assert.equal((outcome as Job).state, 'done');
});

test('of a job that is taken up again, the steps of its former run are left out', async () => {
  const former = [step('Log in', 'done', 1), step('Copy', 'failed', 2)];
  const { text } = await shown(
    [{ steps: former }, { steps: [step('Log in', 'done', 11), step('Copy', 'done', 12)], state: 'done' }],
    10,
  );
  assert.equal(text, '✔ Log in (0.1 s)\n✔ Copy (0.1 s)\n');
});

test('a job that failed throws its own error with its hint', async () => {
  const { text, outcome } = await shown([
    {
      steps: [step('Log in', 'failed', 1)],
      state: 'failed',
      error: { code: 'ssh.refused', message: 'cannot log in', hint: 'give a key' },
    },
  ]);
  assert.equal(text, '✖ Log in (0.1 s)\n');
  assert.ok(isTrustError(outcome, 'ssh.refused') && outcome.hint === 'give a key');
});
