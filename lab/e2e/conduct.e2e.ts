import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { canBootLab } from '../src/capability.ts';
import { findIntact, type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { Fleet } from './fleet.ts';
import { endMigrations } from './leftovers.ts';
import { nothingLeft, runsOnlyOn } from './migration-remains.ts';
import { migrate, vmState, whileRunning } from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const GUEST: Guest = { name: 'guest', memoryMiB: 64, dirtyMiBPerSecond: 2 };
const SLOW = { vm: GUEST.name, from: 'host-a', to: 'host-b', bandwidthMiB: 4, mode: ['tls' as const] };
const PATIENCE = 200_000;

describe('the process that conducts a migration', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-conduct-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
  });
  after(() => fleet?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    await endMigrations(fleet);
    for (const host of [a, b]) await host.exec(['virsh', '-c', 'qemu:///system', 'destroy', GUEST.name]);
    await receiveGuest(b, GUEST);
    await startGuest(a, GUEST);
  });

  /** A migration under way, its memory being sent. */
  async function underWay(bandwidthMiB = SLOW.bandwidthMiB): Promise<Job> {
    const job = await migrate(fleet, { ...SLOW, bandwidthMiB });
    await whileRunning(fleet, job, 'see memory go', (now) =>
      (now.migration?.progress?.processedBytes ?? 0) > 2 ** 20 ? true : undefined,
    );
    return job;
  }

  async function ended(job: Job): Promise<Job> {
    return await until('see the job end', PATIENCE, async () => {
      const now = await fleet.client.call(getJob, { params: { id: job.id } });
      return now.finishedAt === null ? undefined : now;
    });
  }

  const states = async () => [await vmState(a, GUEST.name), await vmState(b, GUEST.name)];
  const conductor = (job: Job) => `virt-trust-migration-${job.id}.service`;

  it('carries on while the agent is killed, and the agent takes it up again', async () => {
    const job = await underWay();
    await a.run(['systemctl', 'kill', '-s', 'KILL', 'virt-trust-agent.service']);
    const last = await ended(job);
    assert.equal(last.state, 'done', last.error?.message ?? '');
    assert.deepEqual(await states(), ['', 'running']);
    await findIntact(b, GUEST);
    await nothingLeft(a, b);
  });

  it('leaves the VM on exactly one host when it is killed, says where, and can be tried again', async () => {
    // No more than the guest dirties: it does not come to its end before.
    const job = await underWay(1);
    await a.run(['systemctl', 'kill', '-s', 'KILL', conductor(job)]);
    const last = await ended(job);
    assert.equal(last.state, 'failed');
    assert.match(last.error?.message ?? '', /the process that conducted it ended in phase perform/);
    assert.equal(last.migration?.runsOn, 'source');
    await runsOnlyOn(GUEST, a, b);
    const again = await ended(await migrate(fleet, { ...SLOW, bandwidthMiB: 0 }));
    assert.equal(again.state, 'done', again.error?.message ?? '');
    assert.deepEqual(await states(), ['', 'running']);
  });

  it('never has it run twice where libvirt of the destination stands still at the end', async () => {
    const job = await underWay();
    // By its unit: what it forks has its name, too, until it executes something else.
    const daemon = (await b.run(['systemctl', 'show', '-P', 'MainPID', 'libvirtd.service'])).trim();
    await b.run(['kill', '-STOP', daemon]);
    try {
      const inDoubt = await until('see it ask for the end', PATIENCE, async () => {
        const now = await fleet.client.call(getJob, { params: { id: job.id } });
        return now.migration?.step === 'finish' || now.finishedAt !== null ? now : undefined;
      });
      // Its connection was given up for dead before, or Finish waits for an answer: it runs nowhere twice either way.
      const running = (await vmState(a, GUEST.name)) === 'running';
      assert.ok(!running || inDoubt.migration?.runsOn === 'source' || inDoubt.finishedAt === null);
    } finally {
      await b.run(['kill', '-CONT', daemon]);
    }
    const last = await ended(job);
    const [onA, onB] = await states();
    assert.ok(last.finishedAt !== null);
    assert.equal(
      [onA, onB].filter((state) => state === 'running').length,
      1,
      `${onA} and ${onB}: ${last.error?.message}`,
    );
    assert.equal(onB === 'running', last.migration?.runsOn === 'destination');
  });
});
