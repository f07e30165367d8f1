import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY, HOUR, MINUTE } from '@virt-trust/base/instant.ts';
import { temporaryDirectory } from '../store/fixtures.ts';
import { renewingFleet } from './fixtures.ts';

const GLOBAL = { scope: 'global', target: '' } as const;

/** A place where work waits until the test lets it go on. */
function gate() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { wait: promise, open: resolve };
}

async function fleetOf(t: Parameters<typeof renewingFleet>[0], count: number) {
  const fleet = await renewingFleet(t, temporaryDirectory(t));
  await fleet.jobs.start();
  const names = Array.from({ length: count }, (_, index) => `h${index + 1}`);
  for (const name of names) await fleet.add(name);
  return { ...fleet, names };
}

/** Past the latest time at which jitter lets a renewal begin. */
const ALL_DUE = 110 * DAY;

test('Nothing is renewed before half of its lifetime, all of it by three quarters, all due services of a host together.', async (t) => {
  const { clock, settle, begun, names, jobs, store } = await fleetOf(t, 3);
  clock.advance(89 * DAY);
  await settle();
  assert.deepEqual(begun, []);
  clock.advance(ALL_DUE - 89 * DAY);
  await settle();
  assert.deepEqual([...begun].sort(), names);
  assert.ok((await jobs.list(undefined, 10)).every(({ job }) => job.state === 'done'));
  for (const row of await store.list({ host: null, limit: 100 })) assert.ok(row.dueAt > clock.now());
});

test('SECURITY: a host that says it serves what is no serial number keeps no other from being renewed.', async (t) => {
  const { clock, settle, begun, hosts, planner, names } = await fleetOf(t, 3);
  for (const serialNumber of ['0aa', '00aa', '00']) {
    clock.advance(ALL_DUE);
    const liar = await hosts.find('h1');
    assert.ok(liar?.observed);
    const [first, ...others] = liar.observed.credentials;
    assert.ok(first);
    const notAfter = clock.now() - DAY;
    const observed = { ...liar.observed, credentials: [{ ...first, serialNumber, notAfter }, ...others] };
    await hosts.update(liar.id, (now) => ({ ...now, observed }));
    await planner.refresh('h1');
    begun.length = 0;
    await settle();
    assert.deepEqual(begun.toSorted(), names, serialNumber);
  }
});

test('A wave begins with one host, takes in one more with each success, and never more than the bound.', async (t) => {
  const { clock, settings, settle, onProvision, names, begun } = await fleetOf(t, 8);
  await settings.put('renewal.concurrency', 3, GLOBAL, 'a');
  let running = 0;
  const most: number[] = [];
  onProvision(async () => {
    running += 1;
    most.push(running);
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    running -= 1;
  });
  clock.advance(ALL_DUE);
  await settle();
  assert.equal(begun.length, names.length);
  assert.equal(most[0], 1);
  assert.equal(most[1], 1, 'the second begins when the first is over');
  assert.equal(Math.max(...most), 3);
});

test('A wave stops after the set number of hosts that failed, is told of, and goes on when somebody lets it.', async (t) => {
  const fleet = await fleetOf(t, 10);
  const { clock, settle, onProvision, freeze, begun, audit, events, scheduler } = fleet;
  onProvision(() => Promise.reject(new Error('no space left')));
  clock.advance(ALL_DUE);
  await settle();
  assert.equal(begun.length, 3);
  const state = await freeze.state();
  assert.deepEqual([state.frozen, state.frozenBy], [true, 'wave']);
  assert.match(state.reason, /failed on 3 hosts, renewal\.failure_limit is 3/);
  assert.ok((await audit.list(0, 1000)).some(({ action }) => action === 'fleet.freeze'));
  const seen: string[] = [];
  for await (const event of events.follow(0, AbortSignal.timeout(60_000))) {
    seen.push(event.kind);
    if (event.kind === 'fleet.frozen') break;
  }
  clock.advance(DAY);
  scheduler.wake();
  await settle();
  assert.equal(begun.length, 3, 'stopped for as long as nobody says otherwise');
  onProvision(async () => {});
  await freeze.put(false, 'space was made', 'token:ann');
  await settle();
  assert.equal(new Set(begun).size, 10);
});

test('Hosts that fail one after the other stop the waves although each was alone in its own.', async (t) => {
  const { clock, settle, onProvision, freeze, add, begun } = await fleetOf(t, 1);
  onProvision(() => Promise.reject(new Error('broken everywhere')));
  for (const name of ['h2', 'h3', 'h4']) {
    clock.advance(ALL_DUE);
    await add(name);
    await settle();
  }
  assert.ok((await freeze.state()).frozen);
  assert.equal(new Set(begun).size, 3);
});

test('One host that goes on failing is tried ever more seldom, stops nobody else, and its back-off outlasts a restart.', async (t) => {
  const directory = temporaryDirectory(t);
  const first = await renewingFleet(t, directory);
  await first.jobs.start();
  for (const name of ['h1', 'h2']) await first.add(name);
  const fails = async (host: { name: string }) => {
    if (host.name === 'h1') throw new Error('no space left');
  };
  first.onProvision(fails);
  first.clock.advance(ALL_DUE);
  await first.settle();
  assert.deepEqual(first.begun.toSorted(), ['h1', 'h2']);
  for (const minutes of [1, 2, 4]) {
    const before = first.begun.length;
    first.clock.advance((minutes - 1) * MINUTE + MINUTE - 1000);
    await first.settle();
    assert.equal(first.begun.length, before, `not before ${minutes} minutes are over`);
    first.clock.advance(2000);
    await first.settle();
    assert.equal(first.begun.length, before + 1);
  }
  assert.equal((await first.freeze.state()).frozen, false);
  await first.stop();
  const second = await renewingFleet(t, directory, first.clock);
  second.onProvision(fails);
  await second.jobs.start();
  second.scheduler.start();
  await second.settle();
  assert.deepEqual(second.begun, []);
  const rows = await second.store.of('h1');
  assert.ok(rows.every((row) => row.failures === 4 && row.lastFailure === 'no space left'));
  second.onProvision(async () => {});
  second.clock.advance(HOUR);
  await second.settle();
  assert.deepEqual(second.begun, ['h1']);
  assert.ok((await second.store.of('h1')).every((row) => row.failures === 0));
});

test('SECURITY: After a restore nobody is renewed by itself before it is known who was revoked since the backup.', async (t) => {
  const { clock, settle, begun, recovery, scheduler } = await fleetOf(t, 2);
  clock.advance(ALL_DUE);
  recovery.held = true;
  await settle();
  assert.deepEqual(begun, []);
  recovery.held = false;
  scheduler.wake();
  await settle();
  assert.equal(new Set(begun).size, 2);
});

test('A freeze stops at once: what is queued is taken back, what runs ends, and nothing begins until it is lifted.', async (t) => {
  const { clock, settings, settle, onProvision, freeze, begun, jobs, scheduler, job } = await fleetOf(t, 6);
  await settings.put('renewal.concurrency', 2, GLOBAL, 'a');
  clock.advance(ALL_DUE);
  const hold = gate();
  const reached = gate();
  onProvision(async () => {
    reached.open();
    await hold.wait;
  });
  // Something else works on the next host, so that its renewal waits in the queue.
  scheduler.wake();
  await reached.wait;
  const running = begun[0];
  const queued = await jobs.enqueue(job, {
    subject: 'h9',
    payload: { host: running ?? '', serials: {}, asked: false },
    actor: 'manager',
    locks: [`host:${running}`],
  });
  await freeze.put(true, 'maintenance', 'token:ann');
  assert.equal((await freeze.put(true, '', 'token:ann')).reason, 'maintenance');
  assert.equal((await jobs.get(queued.id)).state, 'cancelled');
  hold.open();
  await settle();
  assert.deepEqual(begun, [running]);
  const states = (await jobs.list(undefined, 10)).map(({ job: one }) => one.state);
  assert.deepEqual(states, ['cancelled', 'done']);
  clock.advance(DAY);
  await settle();
  assert.equal(begun.length, 1);
  await freeze.put(false, '', 'token:ann');
  await settle();
  assert.equal(new Set(begun).size, 6);
});

test('A freeze outlasts a restart, and a job that was queued then does not begin.', async (t) => {
  const directory = temporaryDirectory(t);
  const first = await renewingFleet(t, directory);
  await first.add('h1');
  first.clock.advance(ALL_DUE);
  // Not started: what is asked for stays queued, as after a kill.
  first.scheduler.wake();
  await first.scheduler.quiet();
  assert.equal(first.jobs.unfinished('host-renew').length, 1);
  first.database.run("update renewal_control set frozen = 1, frozen_by = 'token:ann', since = 1");
  await first.stop();
  const second = await renewingFleet(t, directory, first.clock);
  await second.jobs.start();
  second.scheduler.start();
  await second.settle();
  assert.deepEqual(second.begun, []);
  const [record] = await second.jobs.list(undefined, 10);
  assert.equal(record?.job.error?.code, 'renewal.frozen');
  assert.ok((await second.store.of('h1')).every((row) => row.failures === 0));
  await second.freeze.put(false, '', 'token:ann');
  await second.settle();
  assert.deepEqual(second.begun, ['h1']);
});

test('Hosts that are away wait without being asked for again, and go first when they are back, expired or not.', async (t) => {
  const fleet = await fleetOf(t, 5);
  const { clock, settle, begun, down, store, scheduler, onProvision } = fleet;
  down.add('h3');
  clock.advance(ALL_DUE);
  await settle();
  assert.deepEqual([...begun].sort(), ['h1', 'h2', 'h4', 'h5']);
  assert.ok((await store.of('h3')).every((row) => row.away));
  assert.deepEqual(await store.dueHosts(clock.now(), 10), []);
  // Long past its end; the others are due again by then.
  clock.advance(ALL_DUE);
  begun.length = 0;
  down.delete('h3');
  assert.equal(await store.markBack('h3'), true);
  onProvision(async () => {});
  scheduler.wake();
  await settle();
  assert.equal(begun[0], 'h3');
  assert.equal(begun.length, 5);
  assert.equal(await store.markBack('h3'), false);
});

test('A job that was cancelled comes again, not at once.', async (t) => {
  const { clock, settle, onProvision, begun, jobs, scheduler } = await fleetOf(t, 1);
  const reached = gate();
  onProvision(async (_, job) => {
    reached.open();
    await new Promise((_resolve, reject) => {
      job.signal.addEventListener('abort', () => reject(job.signal.reason));
    });
  });
  clock.advance(ALL_DUE);
  scheduler.wake();
  await reached.wait;
  const [record] = jobs.unfinished('host-renew');
  await jobs.cancel(record?.job.id ?? '', 'token:ann');
  onProvision(async () => {});
  await settle();
  assert.deepEqual(begun, ['h1']);
  clock.advance(2 * MINUTE);
  await settle();
  assert.deepEqual(begun, ['h1', 'h1']);
});

test('What is revoked is not renewed, and once it is not, it is.', async (t) => {
  const { clock, settle, begun, database, scheduler } = await fleetOf(t, 2);
  database.run("insert into revoked_hosts (host, at) values ('h1', 1)");
  clock.advance(ALL_DUE);
  await settle();
  assert.deepEqual(begun, ['h2']);
  database.run('delete from revoked_hosts');
  scheduler.wake();
  await settle();
  assert.deepEqual(begun, ['h2', 'h1']);
});

test('Ten thousand hosts of which none is due cost one look at an index.', async (t) => {
  const { clock, scheduler, database, store, begun } = await fleetOf(t, 1);
  database.transaction(() => {
    for (let number = 10; number < 10_010; number++) {
      database.run(
        "insert into hosts (id, name, cluster, state, document) values (?, ?, 'c', 'secured', '{}')",
        `id${number}`,
        `far${number}`,
      );
      database.run(
        "insert into renewals (host, service, serial_number, not_after, due_at) values (?, 'vnc', ?, 0, ?)",
        `far${number}`,
        `40${number}`,
        clock.now() + 1000 * DAY,
      );
    }
  });
  const asked: string[] = [];
  t.mock.method(database, 'all', (sql: string) => {
    asked.push(sql);
    return [];
  });
  scheduler.wake();
  await scheduler.quiet();
  t.mock.restoreAll();
  assert.deepEqual(begun, []);
  const look = asked.filter((sql) => sql.includes('renewals'));
  assert.equal(look.length, 1);
  const steps = database.all(`explain query plan ${look[0]}`, 0, 10).map((row) => String(row['detail']));
  assert.match(steps[0] ?? '', /SEARCH renewals USING INDEX renewals_by_due \(due_at<\?\)/);
  assert.deepEqual(await store.dueHosts(clock.now(), 10), []);
});
