import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, beforeEach, describe, it } from 'node:test';
import { listHosts, provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationMode, MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import type { SettingValue } from '@virt-trust/contract/model/setting.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import { findIntact, type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { Fleet } from './fleet.ts';
import { isFenced, nothingLeft, runsOnlyOn } from './migration-remains.ts';
import { migrate, vmState, whileRunning } from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const GUEST: Guest = { name: 'guest', memoryMiB: 64, dirtyMiBPerSecond: 0 };
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const PATIENCE = 180_000;
const MODES = ['tls', 'pinned', 'plain'] as const;
/** As fast as the network goes. */
const UNLIMITED = '8796093022207';
const DOUBT_SECONDS = 12;
/** Of the machine, which its hosts have in common. */
const USERFAULTFD = '/proc/sys/vm/unprivileged_userfaultfd';

/** Has libvirt's Prepare wait for as long as a file is there. */
const HOOK = `#!/bin/sh
if [ "$2" = migrate ]; then while [ -e /run/hold-prepare ]; do sleep 0.1; done; cat; fi
exit 0
`;

describe('migrations that go wrong', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let userfaultfd = '0';

  before(async () => {
    userfaultfd = await readFile(USERFAULTFD, 'utf8');
    fleet = await Fleet.up({ lab: `e2e-failures-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await b.writeFile('/etc/libvirt/hooks/qemu', HOOK, 0o755);
    await setUpAsFound([a, b], { libvirt: 'tcp', qemuTls: false });
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    await set('migration.doubt_limit', `${DOUBT_SECONDS}s`);
    await heard();
  });
  after(async () => {
    await writeFile(USERFAULTFD, userfaultfd);
    await fleet?.[Symbol.asyncDispose]();
  });

  /** Each begins with the guest on host-a alone. */
  beforeEach(async () => {
    for (const host of [a, b]) {
      await host.plugCable();
      if (!(await host.running())) await host.boot();
      await host.run(['sh', '-c', 'rm -f /run/hold-prepare; kill -CONT $(pidof libvirtd) 2>/dev/null; true']);
    }
    if ((await vmState(b, GUEST.name)) !== '') await b.run([...VIRSH, 'destroy', GUEST.name]);
    if ((await vmState(a, GUEST.name)) !== 'running') {
      if ((await vmState(a, GUEST.name)) !== '') await a.run([...VIRSH, 'destroy', GUEST.name]);
      await startGuest(a, GUEST);
    }
    await receiveGuest(b, GUEST);
    await heard();
  });

  const set = async (setting: string, value: SettingValue | null, query: object = {}) => {
    await fleet.client.call(putSetting, { params: { setting }, query, body: { value } });
  };

  /** Waits until both hosts have told that they can do all modes. */
  const heard = () =>
    until('hear what both hosts can do', PATIENCE, async () => {
      const { items } = await fleet.client.call(listHosts, { query: {} });
      return items.every(
        ({ channel, security }) => channel === 'up' && MODES.every((mode) => security.modes.includes(mode)),
      )
        ? true
        : undefined;
    });

  const wanted = (mode: MigrationMode, wish: MigrationWish = {}): MigrateVm => ({
    vm: GUEST.name,
    from: 'host-a',
    to: 'host-b',
    mode: [mode],
    ...wish,
  });

  const now = (job: Job) => fleet.client.call(getJob, { params: { id: job.id } });
  const ended = (job: Job) =>
    until('see the job end', PATIENCE, async () => {
      const last = await now(job);
      return last.finishedAt === null ? undefined : last;
    });

  /** A migration that is seen to send memory, slowly. */
  async function underWay(mode: MigrationMode, wish: MigrationWish = {}): Promise<Job> {
    const job = await migrate(fleet, wanted(mode, { bandwidthMiB: 1, ...wish }));
    await whileRunning(fleet, job, 'see it send', ({ migration }) =>
      migration?.step === 'perform' && (migration.progress?.processedBytes ?? 0) > 0 ? true : undefined,
    );
    return job;
  }

  const letGo = () => a.run([...VIRSH, 'migrate-setspeed', GUEST.name, UNLIMITED]);
  const stopLibvirtd = (host: Host) => host.run(['sh', '-c', 'kill -STOP $(pidof libvirtd)']);
  const atFinish = (job: Job) =>
    whileRunning(fleet, job, 'see it finish', ({ migration }) =>
      migration?.step === 'finish' ? true : undefined,
    );

  /** What an operator is told of a job that failed: libvirt's words, the phase, and what to do. */
  function told(job: Job, phase: RegExp, words: RegExp): void {
    assert.equal(job.state, 'failed', job.result ?? '');
    const message = job.error?.message ?? '';
    const hint = job.error?.hint ?? '';
    assert.match(message, phase);
    assert.match(message, words);
    assert.ok(hint.length > 10, `no hint with: ${message}`);
    assert.ok(
      message.includes(job.migration?.error?.message.slice(0, 200) ?? ''),
      "the host's words in full",
    );
  }

  it('1. a host only says that it has TLS: the migration ends with the reason, the VM goes on, nothing is left', async () => {
    await b.run([
      'sh',
      '-c',
      'systemctl stop libvirtd.service libvirtd-tls.socket; systemctl start libvirtd.service',
    ]);
    const outcome = await migrate(fleet, wanted('tls')).then(
      async (job) => (await ended(job)).error,
      (error: { message: string; hint?: string }) => error,
    );
    assert.match(outcome?.message ?? '', /16514|TLS|listen/);
    assert.ok((outcome?.hint ?? '') !== '');
    await runsOnlyOn(GUEST, a, b);
    await b.run([
      'sh',
      '-c',
      'systemctl stop libvirtd.service; systemctl start libvirtd-tls.socket libvirtd.service',
    ]);
    await nothingLeft(a, b);
  });

  for (const mode of MODES) {
    it(`2. ${mode}: the destination dies before it is prepared`, async () => {
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
      const job = await underWay(mode);
      await b.run(['pkill', '-KILL', '-f', `guest=${GUEST.name},`]);
      const last = await ended(job);
      told(last, /in phase perform/, /./);
      await runsOnlyOn(GUEST, a, b);
      await nothingLeft(a, b);
    });

    it(`5. ${mode}: the destination dies where the VM is handed over: nobody can know, so it stands paused`, async () => {
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

  for (const mode of ['tls', 'pinned'] as const) {
    it(`6. ${mode}: the hosts lose each other while memory is sent`, async () => {
      const job = await underWay(mode);
      await b.cutCable();
      const last = await ended(job);
      told(last, /in phase perform/, /./);
      await nothingLeft(a);
      await runsOnlyOnWithout(a);
      await b.plugCable();
      await runsOnlyOn(GUEST, a, b);
      await nothingLeft(a, b);
    });

    it(`7. ${mode}: they lose each other at the hand-over, and find each other in time: it is known where the VM is`, async () => {
      await set('migration.doubt_limit', '2m');
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
      await set('migration.doubt_limit', `${DOUBT_SECONDS}s`);
      assert.equal(last.state, 'done', last.error?.message ?? '');
      await runsOnlyOn(GUEST, b, a);
      await findIntact(b, GUEST);
      await nothingLeft(a, b);
    });

    it(`8. ${mode}: they lose each other at the hand-over for good: one runs, the other stands paused, an operator is needed`, async () => {
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
      const job = await underWay(mode);
      await a.run(['systemctl', 'kill', '--kill-whom=main', '--signal=KILL', 'virt-trust-agent.service']);
      await letGo();
      assert.equal((await ended(job)).state, 'done');
      await runsOnlyOn(GUEST, b, a);
      await nothingLeft(a, b);
    });

    it(`10. ${mode}: the source's agent is killed, and what conducts the migration too`, async () => {
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

    it(`11. ${mode}: the manager dies and returns, and the job goes on`, async () => {
      const job = await underWay(mode);
      await fleet.stopManager();
      await fleet.startManager();
      await whileRunning(fleet, job, 'see it still send', ({ migration }) =>
        migration?.step === 'perform' ? true : undefined,
      );
      await letGo();
      assert.equal((await ended(job)).state, 'done');
      await runsOnlyOn(GUEST, b, a);
      await nothingLeft(a, b);
    });

    it(`12. ${mode}: post-copy breaks: the VM is paused on both, and an operator is needed`, async () => {
      await writeFile(USERFAULTFD, '1');
      const job = await underWay(mode, { postCopy: true });
      await a.run([...VIRSH, 'migrate-setspeed', GUEST.name, '1', '--postcopy']);
      await a.run([...VIRSH, 'migrate-postcopy', GUEST.name]);
      await until('see post-copy', PATIENCE, async () =>
        (await vmState(b, GUEST.name)) === 'running' ? true : undefined,
      );
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

  it('13. certificate and grants end in mid-flight, and nothing is cut', async () => {
    await set('migration.client_certificate_minutes', 1);
    await set('migration.grant_minutes', 1);
    for (const mode of ['tls', 'pinned'] as const) {
      const job = await migrate(fleet, wanted(mode, { bandwidthMiB: 1 }));
      const last = await ended(job);
      assert.equal(last.state, 'done', last.error?.message ?? '');
      assert.ok((last.migration?.progress?.elapsedMs ?? 0) > 60_000);
      await runsOnlyOn(GUEST, b, a);
      await nothingLeft(a, b);
      await b.run([...VIRSH, 'destroy', GUEST.name]);
      await startGuest(a, GUEST);
    }
    await set('migration.client_certificate_minutes', null);
    await set('migration.grant_minutes', null);
  });

  for (const [number, what, script, words] of [
    ['14', 'the CA file is missing at the destination', 'rm -f ca-cert.pem', /ca-cert\.pem|CA/],
    [
      '15',
      "the destination serves a certificate for another host's name",
      'cp /root/other.pem server-cert.pem; cp /root/other.key server-key.pem; chgrp libvirt-qemu server-*; chmod 0640 server-*',
      /name|host-a/,
    ],
  ] as const) {
    it(`${number}. ${what}: libvirt's words come back, in spite of --force`, async () => {
      const directory = '/var/lib/virt-trust/services/migration/current';
      await b.writeFile('/root/other.pem', await a.readFile(`${directory}/server-cert.pem`));
      await b.writeFile('/root/other.key', await a.readFile(`${directory}/server-key.pem`), 0o600);
      // Until the agent leaves it alone.
      await b.run(['sh', '-c', `cd ${directory} && for i in $(seq 8); do ${script}; sleep 2; done`]);
      const unforced = await migrate(fleet, wanted('tls')).then(ended, (error: Error) => error);
      assert.match(
        unforced instanceof Error ? unforced.message : (unforced.error?.message ?? ''),
        words,
        'what was found in advance',
      );
      const outcome = await migrate(fleet, { ...wanted('tls'), force: true }).then(
        async (job) => (await ended(job)).error,
        (error: { message: string; hint?: string }) => error,
      );
      assert.match(outcome?.message ?? '', words);
      assert.ok((outcome?.hint ?? '') !== '');
      await runsOnlyOn(GUEST, a, b);
      await nothingLeft(a, b);
      const renewed = { params: { name: 'host-b' }, body: { renew: true } };
      await fleet.finished(await fleet.client.call(provisionHost, renewed));
    });
  }

  async function runsOnlyOnWithout(host: Host): Promise<void> {
    assert.equal(await vmState(host, GUEST.name), 'running');
  }
});
