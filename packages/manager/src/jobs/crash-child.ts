import { writeSync } from 'node:fs';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { EventLog } from '../events/event-log.ts';
import { appendAudit } from '../store/audit-log.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import { openStore } from '../store/open-store.ts';
import { JobRunner } from './job-runner.ts';

// A process for job-crash.test.ts to kill: it says on standard output where it is, and stays there.
const [directory = '', where = ''] = process.argv.slice(2);
const { database } = openStore(directory, systemClock);

function stayForEver(): void {
  writeSync(1, 'reached\n');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

if (where === 'transaction') {
  database.transaction(() => {
    const draft = { actor: 'a', action: 'b', subject: 'c', outcome: 'done', detail: 'lost' } as const;
    appendAudit(database, systemClock, [draft]);
    database.run("insert into settings (scope, target, name, value) values ('global', '', 'lost', '1')");
    stayForEver();
  });
} else {
  const events = new EventLog(new SqliteEventStore(database, systemClock));
  const store = new SqliteJobStore(database, systemClock);
  const runner = new JobRunner({ store, events, clock: systemClock, log: silentLog, concurrency: 1 });
  const definition = {
    kind: 'host-add',
    run: async (
      payload: { n: number },
      context: Parameters<Parameters<typeof runner.register>[0]['run']>[1],
    ) => {
      await context.step('first', () => context.remember('made', { serial: payload.n }));
      await context.step('second', async (report) => {
        report('half way');
        await new Promise(setImmediate);
        stayForEver();
      });
      return '';
    },
  } as const;
  runner.register(definition);
  await runner.start();
  await runner.enqueue(definition, { subject: 'h1', payload: { n: 41 }, actor: 'token:a' });
  await runner.enqueue(definition, { subject: 'h1', payload: { n: 42 }, actor: 'token:a' });
}
