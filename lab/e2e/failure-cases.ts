import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import { findIntact } from '../src/guest/guest.ts';
import { until } from '../src/until.ts';
import { withUserfaultfd } from '../src/userfaultfd.ts';
import { type FailureScene, GUEST } from './failure-scene.ts';
import { isFenced, nothingLeft, runsOnlyOn } from './migration-remains.ts';
import { migrate, vmState, whileRunning } from './migration-sight.ts';

const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const PATIENCE = 180_000;

/** The cases in which the destination dies, in one mode. */
export function destinationDies(scene: FailureScene, mode: MigrationMode): void {
  const { wanted, ended, underWay, letGo, stopLibvirtd, atFinish, told } = scene;

  it(`2. ${mode}: the destination dies before it is prepared`, async () => {
    const { fleet, a, b } = scene.hosts();
    await b.writeFile('/run/hold-prepare', '');
    const job = await migrate(fleet, wanted(mode));
    await whileRunning(fleet, job, 'see it prepare', ({ migration }) =>
      migration?.step === 'prepare' ? true : undefined,
    );
    await b.crash();
    const last = await ended(job);
    told(last, /in phase prepare/, /./);
    assert.equal(last.migration?.runsOn, 'source');
    assert.equal(await vmState(a, GUEST.name), 'running');
    await b.boot();
    await runsOnlyOn(GUEST, a, b);
    await nothingLeft(a, b);
  });

  it(`3. ${mode}: the destination dies while memory is sent`, async () => {
    const { a, b } = scene.hosts();
    const job = await underWay(mode);
    await b.crash();
    const last = await ended(job);
    told(last, /in phase perform/, /./);
    assert.equal(last.migration?.runsOn, 'source');
    await b.boot();
    await runsOnlyOn(GUEST, a, b);
    await nothingLeft(a, b);
  });

  it(`4. ${mode}: the destination's QEMU dies while memory is sent`, async () => {
    const { a, b } = scene.hosts();
    const job = await underWay(mode);
    await b.run(['pkill', '-KILL', '-f', `guest=${GUEST.name},`]);
    const last = await ended(job);
    told(last, /in phase perform/, /./);
    await runsOnlyOn(GUEST, a, b);
    await nothingLeft(a, b);
  });

  it(`5. ${mode}: the destination dies where the VM is handed over: nobody can know, so it stands paused`, async () => {
    const { a, b } = scene.hosts();
    const job = await underWay(mode);
    await stopLibvirtd(b);
    await letGo();
    await atFinish(job);
    await b.crash();
    const last = await ended(job);
    told(last, /in phase finish/, /cannot know whether guest runs on host-b/);
    assert.deepEqual([last.migration?.phase, last.migration?.runsOn], ['operator-needed', 'unknown']);
    assert.match(last.error?.hint ?? '', /domstate --reason guest.*destroy guest.*resume guest/);
    await isFenced(GUEST, a);
    await b.boot();
    assert.equal(await vmState(b, GUEST.name), '');
    await nothingLeft(a, b);
    // What the hint says, since it is not there.
    await a.run([...VIRSH, 'resume', GUEST.name]);
    await runsOnlyOn(GUEST, a, b);
  });
}

/** The cases in which hosts lose each other, or who conducts the migration ends, in a mode between agents. */
export function partsFail(scene: FailureScene, mode: Exclude<MigrationMode, 'plain'>): void {
  const { setNow, wanted, ended, underWay, letGo, stopLibvirtd, atFinish, told } = scene;

  it(`6. ${mode}: the hosts lose each other while memory is sent`, async () => {
    const { a, b } = scene.hosts();
    const job = await underWay(mode);
    await b.cutCable();
    const last = await ended(job);
    told(last, /in phase perform/, /./);
    await nothingLeft(a);
    assert.equal(await vmState(a, GUEST.name), 'running');
    await b.plugCable();
    await runsOnlyOn(GUEST, a, b);
    await nothingLeft(a, b);
  });

  it(`7. ${mode}: they lose each other at the hand-over, and find each other in time: it is known where the VM is`, async () => {
    const { a, b } = scene.hosts();
    await setNow('migration.doubt_limit', '2m');
    const job = await underWay(mode);
    await stopLibvirtd(b);
    await letGo();
    await atFinish(job);
    await b.cutCable();
    await b.run(['sh', '-c', 'kill -CONT $(pidof libvirtd)']);
    await until('see it run on host-b', PATIENCE, async () =>
      (await vmState(b, GUEST.name)) === 'running' ? true : undefined,
    );
    await isFenced(GUEST, a);
    await b.plugCable();
    const last = await ended(job);
    assert.equal(last.state, 'done', last.error?.message ?? '');
    await runsOnlyOn(GUEST, b, a);
    await findIntact(b, GUEST);
    await nothingLeft(a, b);
  });

  it(`8. ${mode}: they lose each other at the hand-over for good: one runs, the other stands paused, an operator is needed`, async () => {
    const { a, b } = scene.hosts();
    const job = await underWay(mode);
    await stopLibvirtd(b);
    await letGo();
    await atFinish(job);
    await b.cutCable();
    await b.run(['sh', '-c', 'kill -CONT $(pidof libvirtd)']);
    const last = await ended(job);
    told(last, /in phase finish/, /cannot know whether guest runs on host-b/);
    assert.equal(last.migration?.phase, 'operator-needed');
    await isFenced(GUEST, a);
    assert.equal(await vmState(b, GUEST.name), 'running');
    await b.plugCable();
    await nothingLeft(a, b);
    await isFenced(GUEST, a);
    await a.run([...VIRSH, 'destroy', GUEST.name]);
    await runsOnlyOn(GUEST, b, a);
  });

  it(`9. ${mode}: the source's agent is killed, and the migration goes on`, async () => {
    const { a, b } = scene.hosts();
    const job = await underWay(mode);
    await a.run(['systemctl', 'kill', '--kill-whom=main', '--signal=KILL', 'virt-trust-agent.service']);
    await letGo();
    assert.equal((await ended(job)).state, 'done');
    await runsOnlyOn(GUEST, b, a);
    await nothingLeft(a, b);
  });

  it(`10. ${mode}: the source's agent is killed, and what conducts the migration too`, async () => {
    const { a, b } = scene.hosts();
    const job = await underWay(mode);
    await a.run([
      'sh',
      '-c',
      "systemctl kill --signal=KILL 'virt-trust-migration-*' virt-trust-agent.service",
    ]);
    const last = await ended(job);
    told(last, /in phase perform/, /the process that conducted it ended/);
    await runsOnlyOn(GUEST, a, b);
    await nothingLeft(a, b);
  });

  if (mode === 'pinned')
    it('10b. pinned: the relay at the destination is killed, and its agent too', async () => {
      const { a, b } = scene.hosts();
      const job = await underWay(mode);
      await b.run(['sh', '-c', "systemctl kill --signal=KILL 'virt-trust-relay-*' virt-trust-agent.service"]);
      const last = await ended(job);
      told(last, /in phase perform/, /./);
      assert.equal(last.migration?.runsOn, 'source');
      await runsOnlyOn(GUEST, a, b);
      await nothingLeft(a, b);
    });

  it(`11. ${mode}: the manager dies and returns in each phase, and the job goes on`, async () => {
    const { fleet, a, b } = scene.hosts();
    const away = async (job: Job, step: NonNullable<MigrationStatus['step']>) => {
      const isThere = ({ migration }: Job) => (migration?.step === step ? true : undefined);
      await whileRunning(fleet, job, `see it ${step}`, isThere);
      await fleet.stopManager();
      await fleet.startManager();
      await whileRunning(fleet, job, `see it still ${step}`, isThere);
    };
    // The destination's libvirt stands still for as long as a manager takes to return.
    await setNow('migration.doubt_limit', '2m');
    await b.writeFile('/run/hold-prepare', '');
    const job = await migrate(fleet, wanted(mode, { bandwidthMiB: 1 }));
    await away(job, 'prepare');
    await b.run(['rm', '/run/hold-prepare']);
    await away(job, 'perform');
    await stopLibvirtd(b);
    await letGo();
    await away(job, 'finish');
    await b.run(['sh', '-c', 'kill -CONT $(pidof libvirtd)']);
    const last = await ended(job);
    assert.equal(last.state, 'done', last.error?.message ?? '');
    await runsOnlyOn(GUEST, b, a);
    await nothingLeft(a, b);
  });

  it(`11b. ${mode}: the manager returns when all is over: the job says how, and the grants are gone`, async () => {
    const { fleet, a, b } = scene.hosts();
    const job = await underWay(mode);
    await fleet.stopManager();
    await letGo();
    await until('see it gone from host-a', PATIENCE, async () =>
      (await vmState(a, GUEST.name)) === '' ? true : undefined,
    );
    await fleet.startManager();
    const last = await ended(job);
    assert.equal(last.state, 'done', last.error?.message ?? '');
    assert.equal(last.migration?.runsOn, 'destination');
    await runsOnlyOn(GUEST, b, a);
    await nothingLeft(a, b);
  });

  it(`12. ${mode}: post-copy breaks: the VM is paused on both, and an operator is needed`, async () => {
    const { a, b } = scene.hosts();
    const job = await withUserfaultfd(true, async () => {
      const begun = await underWay(mode, { postCopy: true });
      await a.run([...VIRSH, 'migrate-setspeed', GUEST.name, '1', '--postcopy']);
      await a.run([...VIRSH, 'migrate-postcopy', GUEST.name]);
      await until('see post-copy', PATIENCE, async () =>
        (await vmState(b, GUEST.name)) === 'running' ? true : undefined,
      );
      return begun;
    });
    await b.cutCable();
    const last = await ended(job);
    told(last, /in phase (perform|finish|confirm)/, /./);
    assert.equal(last.migration?.phase, 'operator-needed');
    assert.match(last.error?.hint ?? '', /--postcopy-resume/);
    await isFenced(GUEST, a);
    await b.plugCable();
    const { stdout } = await b.exec([...VIRSH, 'domstate', GUEST.name, '--reason']);
    assert.match(stdout, /post-?copy/, 'it waits there for memory that does not come');
    // QEMU there still listens for the source to come back and bring the rest.
    for (const host of [b, a]) await host.exec([...VIRSH, 'destroy', GUEST.name]);
    await nothingLeft(a, b);
  });
}
