import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Instant, instant } from '@virt-trust/base/instant.ts';
import fc from 'fast-check';
import type { Condition } from './condition.ts';
import { type AlarmChange, alarmKey, type OpenAlarm, reconcile } from './reconcile.ts';

const CLEAR_AFTER = 100;

const condition = (more: Partial<Condition> = {}): Condition => ({
  kind: 'drift',
  subject: 'vnc of host host-a',
  host: 'host-a',
  severity: 'warning',
  message: 'another certificate',
  action: 'virt-trust host provision host-a',
  ...more,
});

/** The open alarms of one source over time, as the store would keep them. */
class Book {
  open: OpenAlarm[] = [];
  #ids = 0;

  step(now: number, conditions: readonly Condition[], isTaken: (key: string) => boolean = () => false) {
    const changes = reconcile({
      source: 'test',
      open: this.open,
      conditions,
      isTaken,
      now: now as Instant,
      clearAfter: CLEAR_AFTER,
      newId: () => `alarm-${++this.#ids}`,
    });
    for (const { kind, alarm } of changes) {
      this.open = this.open.filter((one) => one.id !== alarm.id);
      if (kind !== 'clear') this.open.push(alarm);
    }
    return changes;
  }

  kinds(now: number, conditions: readonly Condition[]): AlarmChange['kind'][] {
    return this.step(now, conditions).map((change) => change.kind);
  }
}

test('an alarm is raised once, stays while its cause is there, and is cleared after it was away for a while', () => {
  const book = new Book();
  assert.deepEqual(book.kinds(0, [condition()]), ['raise']);
  assert.deepEqual(book.kinds(10, [condition()]), []);
  assert.deepEqual(book.kinds(20, []), ['note']);
  assert.deepEqual(book.kinds(119, []), []);
  assert.deepEqual(book.kinds(120, []), ['clear']);
  assert.deepEqual(book.kinds(130, [condition()]), ['raise']);
  assert.equal(book.open[0]?.id, 'alarm-2');
});

test('what comes and goes is one alarm that was seen several times', () => {
  const book = new Book();
  book.step(0, [condition()]);
  for (let now = 10; now < 100; now += 10) book.step(now, now % 20 === 0 ? [condition()] : []);
  assert.equal(book.open.length, 1);
  assert.deepEqual([book.open[0]?.id, book.open[0]?.seen], ['alarm-1', 5]);
});

test('what cannot be told now neither raises an alarm nor clears one', () => {
  const book = new Book();
  assert.deepEqual(book.kinds(0, [condition({ undecided: true })]), []);
  book.step(10, [condition()]);
  assert.deepEqual(book.kinds(20, [condition({ undecided: true, severity: 'critical' })]), []);
  assert.deepEqual(book.kinds(1000, [condition({ undecided: true })]), []);
  assert.equal(book.open[0]?.goneSince, null);
});

test('an acknowledged warning that becomes critical is raised again; one that gets better stays acknowledged', () => {
  const book = new Book();
  book.step(0, [condition()]);
  book.open = book.open.map((alarm) => ({ ...alarm, state: 'acknowledged', acknowledgedBy: 'token:op' }));
  assert.deepEqual(book.kinds(10, [condition({ message: 'other words' })]), ['note']);
  assert.equal(book.open[0]?.state, 'acknowledged');
  assert.deepEqual(book.kinds(20, [condition({ severity: 'critical' })]), ['escalate']);
  assert.deepEqual([book.open[0]?.state, book.open[0]?.acknowledgedBy], ['raised', null]);
  book.open = book.open.map((alarm) => ({ ...alarm, state: 'acknowledged', acknowledgedBy: 'token:op' }));
  assert.deepEqual(book.kinds(30, [condition()]), ['note']);
  assert.deepEqual([book.open[0]?.state, book.open[0]?.severity], ['acknowledged', 'warning']);
});

test('two sources that say the same make one alarm', () => {
  const book = new Book();
  assert.deepEqual(
    book.step(0, [condition()], (key) => key === alarmKey(condition())),
    [],
  );
});

test('whatever conditions come and go, there is one open alarm for a key at most, and none without a cause for long', () => {
  const subjects = fc.constantFrom('a', 'b', 'c');
  const some = fc.array(
    fc.record({
      subject: subjects,
      severity: fc.constantFrom('warning' as const, 'critical' as const),
      undecided: fc.boolean(),
    }),
    { maxLength: 5 },
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 150 }), some), { minLength: 1, maxLength: 30 }),
      (steps) => {
        const book = new Book();
        let now: number = instant(0);
        for (const [pause, given] of steps) {
          now += pause;
          const conditions = given.map((one) => condition(one));
          book.step(now, conditions);
          const keys = book.open.map(alarmKey);
          assert.equal(new Set(keys).size, keys.length);
          const decided = new Set(conditions.filter((one) => !one.undecided).map(alarmKey));
          for (const key of decided) assert.ok(keys.includes(key), 'a cause without an alarm');
          const untold = new Set(conditions.filter((one) => one.undecided).map(alarmKey));
          for (const alarm of book.open)
            assert.ok(
              alarm.goneSince === null || now - alarm.goneSince < CLEAR_AFTER || untold.has(alarmKey(alarm)),
              'an alarm that should have been cleared',
            );
          // Said twice, nothing happens.
          assert.deepEqual(book.step(now, conditions), []);
        }
      },
    ),
  );
});
