import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, afterEach, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import { evacuateHost } from '@virt-trust/contract/manager/migration-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { canBootLab } from '../src/capability.ts';
import { findIntact, type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { runningVms } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { endMigrations, endVms } from './leftovers.ts';
import { cancelled, migrate } from './migration-sight.ts';
import { programPath } from './program.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 180_000;

const GUESTS: readonly Guest[] = ['one', 'two', 'three', 'four'].map((name) => ({
  name,
  memoryMiB: 64,
  dirtyMiBPerSecond: 1,
}));

describe('emptying a host, and watching it', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-evacuation-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    for (const guest of GUESTS) {
      await startGuest(a, guest);
      await receiveGuest(b, guest);
    }
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  // What a step that failed left behind is nothing to the next.
  afterEach(() => endMigrations(fleet));

  /** The migrations that there are and were, from what every user sees. */
  const migrations = async (): Promise<Job[]> => {
    const { items } = await fleet.client.call(listJobs, { query: { limit: 100 } });
    return items.filter(({ kind }) => kind === 'migrate');
  };
  const running = async () => (await migrations()).filter(({ state }) => state === 'running');

  it('moves every VM, two at once, and each arrives whole', async () => {
    const job = await fleet.client.call(evacuateHost, {
      params: { name: 'host-a' },
      body: { to: ['host-b'], concurrency: 2, bandwidthMiB: 24 },
    });
    await fleet.finished(job);
    assert.equal(atOnce(await migrations()), 2);
    assert.deepEqual(await runningVms(a), []);
    assert.deepEqual(new Set(await runningVms(b)), new Set(GUESTS.map(({ name }) => name)));
    for (const guest of GUESTS) await findIntact(b, guest);
  });

  it('shows memory, rate, iteration, estimate and downtime on a terminal, which may go away', async () => {
    const tmux = promisify(execFile);
    const socket = `virt-trust-${process.pid}`;
    const guest: Guest = { name: 'shown', memoryMiB: 128, dirtyMiBPerSecond: 12 };
    await startGuest(a, guest);
    await receiveGuest(b, guest);
    const env = `VIRT_TRUST_URL=${fleet.url} VIRT_TRUST_TOKEN=${fleet.token}`;
    const command = `${env} ${await programPath()} migrate shown --from host-a --to host-b --bandwidth 8`;
    await tmux('tmux', ['-L', socket, 'new-session', '-d', '-s', 'watch', '-x', '140', '-y', '20', command]);
    try {
      await until('see the progress in the terminal', PATIENCE, async () => {
        const { stdout } = await tmux('tmux', ['-L', socket, 'capture-pane', '-p', '-t', 'watch']);
        return /MiB\/s/.test(stdout) && /iteration|pass/.test(stdout) && /downtime|pause/.test(stdout)
          ? true
          : undefined;
      });
    } finally {
      await tmux('tmux', ['-L', socket, 'kill-server']);
    }
    const [job] = await running();
    assert.ok(job !== undefined, 'the migration ended with the terminal that showed it');
    await cancelled(fleet, job, guest, a, b);
  });

  it('goes on with the others where one VM cannot go, and says which and why', async () => {
    await endVms(a);
    const stuck: Guest = { name: 'stuck', memoryMiB: 64, dirtyMiBPerSecond: 1 };
    const free: Guest = { name: 'free', memoryMiB: 64, dirtyMiBPerSecond: 1 };
    await startGuest(a, stuck);
    await startGuest(a, free);
    // Its medium is on the source alone.
    await receiveGuest(b, free);
    const job = await fleet.client.call(evacuateHost, { params: { name: 'host-a' }, body: {} });
    await assert.rejects(fleet.finished(job), /stuck/);
    assert.deepEqual(await runningVms(a), ['stuck']);
    assert.ok((await runningVms(b)).includes('free'));
    await receiveGuest(b, stuck);
    await fleet.finished(await migrate(fleet, { vm: 'stuck', from: 'host-a', to: 'host-b' }));
    await findIntact(b, stuck);
  });
});

/** How many of these jobs there were at a time at most, by the times that the manager gave them. */
function atOnce(jobs: readonly Job[]): number {
  const counts = jobs.map(
    ({ createdAt }) =>
      jobs.filter(
        (one) => one.createdAt <= createdAt && createdAt < (one.finishedAt ?? Number.POSITIVE_INFINITY),
      ).length,
  );
  return Math.max(0, ...counts);
}
