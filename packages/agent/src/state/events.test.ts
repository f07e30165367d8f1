import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { appendFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { temporaryRoot } from '../fixtures.ts';
import { EventLog } from './events.ts';

if (process.argv[2] === 'append-forever') {
  const log = await EventLog.open(process.argv[3] ?? '', systemClock, { eventsPerFile: 7, files: 1000 });
  for (;;) {
    const { sequence } = await log.append('test', 'subject', 'x'.repeat(200));
    process.send?.(sequence);
  }
}

test('events are numbered without gaps, across restarts and files, and the oldest file goes', async (t) => {
  const directory = await temporaryRoot(t);
  const bounds = { eventsPerFile: 3, files: 2 };
  const first = await EventLog.open(directory, systemClock, bounds);
  for (let index = 0; index < 5; index++) await first.append('test', `${index}`, 'said\u0000\nmore');
  await first.close();
  const log = await EventLog.open(directory, systemClock, bounds);
  assert.equal(log.last, 5);
  await Promise.all([1, 2, 3, 4].map((index) => log.append('test', `${index}`, '')));
  const { events, last } = await log.list(0, 1000);
  assert.equal(last, 9);
  assert.deepEqual(
    events.map(({ sequence }) => sequence),
    [4, 5, 6, 7, 8, 9],
  );
  assert.equal(events[0]?.message, 'said  more');
  assert.deepEqual(
    (await log.list(5, 2)).events.map(({ sequence }) => sequence),
    [6, 7],
  );
  assert.deepEqual((await log.list(9, 10)).events, []);
  await log.close();
});

test('who waits for an event gets it when it comes, or nothing when the wait ends', async (t) => {
  const log = await EventLog.open(await temporaryRoot(t), systemClock);
  const waiting = log.waitFor(0, new AbortController().signal);
  await log.append('test', '', '');
  await waiting;
  await log.waitFor(0, new AbortController().signal);
  await log.waitFor(1, AbortSignal.abort());
  const ended = new AbortController();
  const second = log.waitFor(1, ended.signal);
  ended.abort();
  await second;
  await log.close();
});

test('a line that a crash left half written is cut off and its number used again', async (t) => {
  const directory = await temporaryRoot(t);
  const log = await EventLog.open(directory, systemClock);
  await log.append('test', 'whole', '');
  await log.close();
  const [name] = await readdir(directory);
  await appendFile(join(directory, name ?? ''), '{"sequence":2,"at":1');
  const again = await EventLog.open(directory, systemClock);
  assert.equal((await again.append('test', 'next', '')).sequence, 2);
  assert.deepEqual(
    (await again.list(0, 10)).events.map(({ subject }) => subject),
    ['whole', 'next'],
  );
  assert.equal((await readFile(join(directory, name ?? ''), 'utf8')).split('\n').length, 3);
  await again.close();
});

test('no event that was acknowledged is lost when the agent is killed', async (t) => {
  const directory = await temporaryRoot(t);
  let acknowledged = 0;
  for (let round = 0; round < 3; round++) {
    const child = fork(import.meta.filename, ['append-forever', directory], { execArgv: [] });
    const enough = acknowledged + 10;
    child.on('message', (sequence: number) => {
      acknowledged = sequence;
      if (sequence >= enough) child.kill('SIGKILL');
    });
    await Promise.all(
      ['exit', 'disconnect'].map((event) => new Promise((resolve) => child.once(event, resolve))),
    );
    const log = await EventLog.open(directory, systemClock, { eventsPerFile: 7, files: 1000 });
    assert.ok(log.last >= acknowledged);
    const { events } = await log.list(0, 1000);
    assert.deepEqual(
      events.map(({ sequence }) => sequence),
      Array.from({ length: log.last }, (_, index) => index + 1),
    );
    acknowledged = log.last;
    await log.close();
  }
});
