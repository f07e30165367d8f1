import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { listHosts } from '@virt-trust/contract/manager/host-operations.ts';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import { type Guest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { shareDirectory } from '../src/shared-disk.ts';
import { until } from '../src/until.ts';
import { Fleet } from './fleet.ts';
import { isFenced, nothingLeft, runsOnlyOn } from './migration-remains.ts';
import { callArrived, migrate, vmState, whileRunning } from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

/** At 1 MiB/s it never arrives, however slowly a step is taken. */
const GUEST: Guest = {
  name: 'guest',
  memoryMiB: 64,
  dirtyMiBPerSecond: 2,
  disk: { format: 'raw', sizeMiB: 8 },
};
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const PATIENCE = 180_000;
/** VIR_MIGRATE_UNSAFE: libvirt knows the file systems of NFS and the like, and does not believe ours to be one. */
const SHARED = { flags: 512, force: true };

describe('a migration of a VM whose disk is locked by virtlockd', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-locks-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await shareDirectory([a, b], '/var/lib/libvirt/images', 64);
    for (const host of [a, b])
      await host.run(['sh', '-c', `printf '\\nlock_manager = "lockd"\\n' >>/etc/libvirt/qemu.conf`]);
    await setUpAsFound([a, b], { libvirt: 'tcp', qemuTls: false });
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    await fleet.client.call(putSetting, {
      params: { setting: 'migration.doubt_limit' },
      query: {},
      body: { value: '12s' },
    });
    await until('hear what both hosts can do', PATIENCE, async () => {
      const { items } = await fleet.client.call(listHosts, { query: {} });
      return items.every(({ security }) => security.modes.includes('pinned')) ? true : undefined;
    });
    await startGuest(a, GUEST);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. moves the lock along with the VM, there and back', async () => {
    for (const [mode, from, to] of [
      ['tls', a, b],
      ['pinned', b, a],
    ] as const) {
      const order = { vm: GUEST.name, from: from.name, to: to.name, mode: [mode], ...SHARED };
      await fleet.finished(await migrate(fleet, order));
      await runsOnlyOn(GUEST, to, from);
    }
    await nothingLeft(a, b);
  });

  it('2. lets nobody resume the source where the hosts lost each other at the hand-over and it runs on the other', async () => {
    const order = {
      vm: GUEST.name,
      from: 'host-a',
      to: 'host-b',
      mode: ['tls' as const],
      bandwidthMiB: 1,
      ...SHARED,
    };
    const job = await migrate(fleet, order);
    await whileRunning(fleet, job, 'see it send', ({ migration }) =>
      migration?.step === 'perform' && (migration.progress?.processedBytes ?? 0) > 0 ? true : undefined,
    );
    await b.run(['sh', '-c', 'kill -STOP $(pidof libvirtd)']);
    await a.run([...VIRSH, 'migrate-setspeed', GUEST.name, '8796093022207']);
    await whileRunning(fleet, job, 'see it finish', ({ migration }) =>
      migration?.step === 'finish' ? true : undefined,
    );
    await callArrived(b);
    await b.cutCable();
    await b.run(['sh', '-c', 'kill -CONT $(pidof libvirtd)']);
    const last = await until('see the job end', PATIENCE, async () => {
      const now = await fleet.client.call(getJob, { params: { id: job.id } });
      return now.finishedAt === null ? undefined : now;
    });
    assert.equal(last.migration?.phase, 'operator-needed', last.error?.message ?? '');
    await isFenced(GUEST, a);
    assert.equal(await vmState(b, GUEST.name), 'running');
    // Somebody who does not read the hint.
    const resumed = await a.exec([...VIRSH, 'resume', GUEST.name]);
    assert.notEqual(resumed.code, 0);
    assert.match(resumed.stderr, /lock|Lock|in use|busy/);
    await isFenced(GUEST, a);
    await b.plugCable();
    await nothingLeft(a, b);
    await a.run([...VIRSH, 'destroy', GUEST.name]);
    await runsOnlyOn(GUEST, b, a);
  });
});
