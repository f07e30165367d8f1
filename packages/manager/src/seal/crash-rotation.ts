import { writeSync } from 'node:fs';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { EventLog } from '../events/event-log.ts';
import type { JobDefinition } from '../jobs/job.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { SqliteJobStore } from '../store/job-store.ts';
import { openSeal } from '../store/open-seal.ts';
import { openStore } from '../store/open-store.ts';
import { SqliteSealedValues } from '../store/sealed-values.ts';
import { rotationJob, type SealedValues } from './rotation.ts';
import { sealKeyPlace } from './seal-key-file.ts';

// A process for rotation.test.ts to kill: it rotates, says on standard output where it is, and stays there.
const [directory = '', where = ''] = process.argv.slice(2);
const { database } = openStore(directory, systemClock);
const place = sealKeyPlace(directory, undefined);
const seal = openSeal(database, place, systemRandomness);
const own = new SqliteSealedValues(database);

function pass(point: string): void {
  if (point !== where) return;
  writeSync(1, 'reached\n');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

let batches = 0;
const values: SealedValues = {
  sealAnew(used) {
    pass(batches === 0 ? 'key made' : `batch ${batches}`);
    batches += 1;
    // One at a time, so that there is a moment at which some are under each key.
    return own.sealAnew(used, 1);
  },
  left(keyId) {
    pass('about to destroy');
    return own.left(keyId);
  },
  flushLog() {
    pass('all sealed');
    return own.flushLog();
  },
};
const real = new SqliteAuditLog(database, systemClock);
const audit: AuditLog = {
  append: async (drafts) => {
    pass('destroyed');
    await real.append(drafts);
  },
  list: (after, limit) => real.list(after, limit),
};
const runner = new JobRunner({
  store: new SqliteJobStore(database, systemClock),
  events: new EventLog(new SqliteEventStore(database, systemClock)),
  clock: systemClock,
  log: silentLog,
  concurrency: 1,
});
const job: JobDefinition<Record<string, never>> = rotationJob({
  values,
  seal,
  place,
  randomness: systemRandomness,
  audit,
});
const guarded: typeof job = {
  ...job,
  run: (payload, context) =>
    job.run(payload, {
      id: context.id,
      subject: context.subject,
      actor: context.actor,
      signal: context.signal,
      step: (name, run) => context.step(name, run),
      progress: (progress) => context.progress(progress),
      migration: (status) => context.migration(status),
      plan: (plan) => context.plan(plan),
      warn: (warnings) => context.warn(warnings),
      recall: (key) => context.recall(key),
      remember: async (key, value) => {
        await context.remember(key, value);
        pass('remembered');
      },
    }),
};
runner.register(guarded);
await runner.start();
await runner.enqueue(guarded, { subject: 'seal key', payload: {}, actor: 'token:a' });
