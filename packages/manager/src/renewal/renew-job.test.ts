import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DAY } from '@virt-trust/base/instant.ts';
import { settableClock, temporaryDirectory } from '../store/fixtures.ts';
import { renewingFleet } from './fixtures.ts';

test('A manager that is killed in a renewal goes on with it, raises nothing twice, and the wave goes on after it.', async (t) => {
  const directory = temporaryDirectory(t);
  const program = fileURLToPath(new URL('crash-child.ts', import.meta.url));
  const child = spawn(process.execPath, [program, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('the child ended by itself'))),
  ]);
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;

  const clock = settableClock();
  clock.advance(110 * DAY);
  const fleet = await renewingFleet(t, directory, clock);
  const raised: unknown[] = [];
  fleet.onProvision(async ({ revisions }) => void raised.push(revisions));
  assert.notEqual((await fleet.store.control()).waveBeganAt, null);
  await fleet.jobs.start();
  fleet.scheduler.start();
  await fleet.settle();
  assert.deepEqual(fleet.begun.toSorted(), ['h1', 'h2']);
  const once1 = { libvirt: 1, migration: 1, vnc: 1 };
  assert.deepEqual(raised, [once1, once1]);
  const records = await fleet.jobs.list(undefined, 10);
  assert.deepEqual(
    records.map(({ job }) => job.state),
    ['done', 'done'],
  );
});

test('A renewal that was done meanwhile by somebody else is not done again.', async (t) => {
  const fleet = await renewingFleet(t, temporaryDirectory(t));
  await fleet.jobs.start();
  await fleet.add('h1');
  const order = { host: 'h1', serials: { vnc: '40aa' }, asked: true };
  const { id } = await fleet.jobs.enqueue(fleet.job, { subject: 'h1', payload: order, actor: 'token:ann' });
  await fleet.settle();
  assert.equal((await fleet.jobs.get(id)).result, 'host h1: renewed before');
  assert.deepEqual(fleet.begun, []);
});

test('What is asked for by name is renewed in spite of a freeze, and its failure stops no wave.', async (t) => {
  const fleet = await renewingFleet(t, temporaryDirectory(t));
  await fleet.settings.put('renewal.failure_limit', 1, { scope: 'global', target: '' }, 'a');
  await fleet.jobs.start();
  await fleet.add('h1');
  await fleet.freeze.put(true, '', 'token:ann');
  const ask = async () => {
    const [row] = await fleet.store.of('h1');
    const order = { host: 'h1', serials: { [row?.service ?? '']: row?.serialNumber ?? '' }, asked: true };
    const job = await fleet.jobs.enqueue(fleet.job, { subject: 'h1', payload: order, actor: 'token:ann' });
    await fleet.settle();
    return fleet.jobs.get(job.id);
  };
  assert.equal((await ask()).state, 'done');
  assert.deepEqual(fleet.begun, ['h1']);
  await fleet.freeze.put(false, '', 'token:ann');
  fleet.onProvision(() => Promise.reject(new Error('no space left')));
  assert.equal((await ask()).state, 'failed');
  assert.equal((await fleet.freeze.state()).frozen, false);
  assert.equal((await fleet.store.failures(10))[0]?.lastFailure, 'no space left');
});
