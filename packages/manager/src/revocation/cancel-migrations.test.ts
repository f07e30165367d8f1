import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { EventLog } from '../events/event-log.ts';
import { over } from '../jobs/fixtures.ts';
import type { JobDefinition } from '../jobs/job.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import { cancelMigrations } from './cancel-migrations.ts';
import { revocationOn } from './fixtures.ts';

test('migrations from and to a revoked host are cancelled, others go on; a revocation waits for none of them', async (t) => {
  const { database, clock } = await revocationOn(t);
  const runner = new JobRunner({
    store: new SqliteJobStore(database, clock),
    events: new EventLog(new SqliteEventStore(database, clock)),
    clock,
    log: silentLog,
    concurrency: 3,
  });
  const migrate: JobDefinition<{ order: { vm: string; from: string; to: string } }> = {
    kind: 'migrate',
    run: (_, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
      }),
  };
  const revocation: JobDefinition = {
    kind: 'revocation',
    urgent: true,
    run: async () => `${await cancelMigrations('b', 'token:admin', runner)} cancelled`,
  };
  runner.register(migrate);
  runner.register(revocation);
  await runner.start();
  t.after(() => runner.close());
  const actor = 'token:admin';
  const begin = (from: string, to: string) =>
    runner.enqueue(migrate, {
      subject: `${from} ${to}`,
      payload: { order: { vm: 'vm', from, to } },
      actor,
      locks: [],
    });
  const [fromB, toB, other, waiting] = [
    await begin('b', 'a'),
    await begin('a', 'b'),
    await begin('a', 'c'),
    await begin('c', 'b'),
  ];
  const { id } = await runner.enqueue(revocation, { subject: 'b', payload: {}, actor, locks: [] });
  assert.equal((await over(runner, id)).result, '3 cancelled');
  for (const job of [fromB, toB, waiting]) assert.equal((await over(runner, job.id)).state, 'cancelled');
  assert.equal((await runner.get(other.id)).state, 'running');
});
