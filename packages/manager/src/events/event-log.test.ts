import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ManagerEvent } from '@virt-trust/contract/model/manager-event.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { EventLog } from './event-log.ts';

function temporaryEvents(t: TestContext) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  return new EventLog(new SqliteEventStore(database, clock));
}

const numbered = (n: number) => ({ kind: 'test', subject: 's', message: String(n) });

test('who follows gets every event once and in order, those from before included', async (t) => {
  const events = temporaryEvents(t);
  for (let n = 1; n <= 250; n++) await events.publish(numbered(n));
  const stop = new AbortController();
  const seen: number[] = [];
  const published = (async () => {
    for (let n = 251; n <= 400; n++) await events.publish(numbered(n));
  })();
  for await (const event of events.follow(10, stop.signal)) {
    seen.push(event.sequence);
    if (event.sequence === 400) stop.abort();
  }
  await published;
  assert.deepEqual(
    seen,
    Array.from({ length: 390 }, (_, index) => index + 11),
  );
});

test('who gives no position gets what happens from then on, and is woken by it', async (t) => {
  const events = temporaryEvents(t);
  await events.publish(numbered(1));
  const stop = new AbortController();
  const following = events.follow(undefined, stop.signal);
  const next = following.next();
  await new Promise(setImmediate);
  await events.publish(numbered(2));
  assert.equal((await next).value?.message, '2');
  stop.abort();
  assert.equal((await following.next()).done, true);
});

test('following ends when the signal says so, also while waiting', async (t) => {
  const events = temporaryEvents(t);
  const stop = new AbortController();
  const next = events.follow(0, stop.signal).next();
  stop.abort();
  assert.equal((await next).done, true);
});

test('an event of any text is kept in the contract’s form', async (t) => {
  const events = temporaryEvents(t);
  await events.publish({ kind: 'a\u0000\n', subject: '\ud800', message: `\u001b[31m${'x'.repeat(9000)}` });
  const stop = new AbortController();
  for await (const event of events.follow(0, stop.signal)) {
    validatorOf(ManagerEvent)(event, 'event');
    stop.abort();
  }
});
