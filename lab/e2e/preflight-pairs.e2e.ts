import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { cancelJob, getJob } from '@virt-trust/contract/manager/job-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import {
  makeTestCertificate,
  type TestCertificateOptions,
  type TestIdentity,
} from '@virt-trust/libvirt/test-certificates.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import type { KeyUsage } from '@virt-trust/pki/extensions.ts';
import { canBootLab } from '../src/capability.ts';
import { type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { withUserfaultfd } from '../src/userfaultfd.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { canTakeCpus, giveCpusBack, leaveFirstCpu } from './cpuset.ts';
import { Fleet } from './fleet.ts';
import { setRight } from './leftovers.ts';
import { cancelled, livesOn, migrate, vmState, whileRunning } from './migration-sight.ts';
import { MountedFiles, UNMOUNT } from './mounts.ts';
import { PairPlans } from './pair-plans.ts';
import { RESTART_LIBVIRTD } from './restart-libvirtd.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const hasCpus = await canTakeCpus();

const DIRECTORY = '/etc/pki/libvirt-migrate';
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const PATIENCE = 120_000;
/** `VIR_MIGRATE_UNSAFE`: what is on local disks here has nothing in it. */
const UNSAFE = 512;
const MACHINE = 'pc-i440fx-7.2';
const UNLIMITED = '8796093022207';
const GUEST: Guest = { name: 'early', memoryMiB: 64, dirtyMiBPerSecond: 0 };

const PICKY = (devices: string, more = '') => `<domain type='qemu'>
  <name>picky</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>${more}
  <os><type arch='x86_64' machine='${MACHINE}'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${devices}</devices>
</domain>
`;
const DISK = (path: string, format = 'raw') =>
  `<disk type='file' device='disk'><driver name='qemu' type='${format}'/><source file='${path}'/><target dev='vda' bus='virtio'/></disk>`;

const RESTARTED = `{ ${RESTART_LIBVIRTD}; virsh version >/dev/null; }`;
/** A host whose QEMU has not the machine type, as libvirt has found out and kept. */
const NO_MACHINE = `virsh domcapabilities --virttype qemu >/dev/null
sed -i "/name='${MACHINE}'/d" /var/cache/libvirt/qemu/capabilities/*.xml; touch /run/no-machine; ${RESTARTED}`;
const NO_MACHINE_MENDED = `if test -e /run/no-machine; then
rm -f /run/no-machine /var/cache/libvirt/qemu/capabilities/*.xml; ${RESTARTED}; virsh capabilities >/dev/null; fi`;
/** A host that has CPU 0 alone, as libvirt and libnuma read it. */
const ONE_CPU = `for part in cpu node; do mkdir -p /run/one/$part; cp -r /sys/devices/system/$part/. /run/one/$part/ 2>/dev/null; done
rm -rf /run/one/cpu/cpu[1-9]* /run/one/node/node0/cpu[1-9]*
for name in online present; do echo 0 >/run/one/cpu/$name; done
echo 0 >/run/one/node/node0/cpulist; echo 1 >/run/one/node/node0/cpumap
for part in cpu node; do mount --bind /run/one/$part /sys/devices/system/$part || exit 1; done; ${RESTARTED}`;
const ONE_CPU_MENDED = `if test -e /run/one; then
for part in cpu node; do mountpoint -q /sys/devices/system/$part && ${UNMOUNT} /sys/devices/system/$part; done
rm -rf /run/one; ${RESTARTED}; fi`;
/** An image that is based on another. */
const BASED = 'truncate -s 1M /srv/base; qemu-img create -q -f qcow2 -b base -F raw $disk';
/** Whatever disks the steps made, and where. */
const NO_DISKS = `for place in /srv/locked /srv/picky.img; do mountpoint -q $place && ${UNMOUNT} $place; done
rm -rf /srv/* /home/picky /tmp/picky /dev/picky; true`;
/** Has libvirt's Prepare wait for as long as a file is there. */
const HOOK = `#!/bin/sh
if [ "$2" = migrate ]; then while [ -e /run/hold-prepare ]; do sleep 0.1; done; cat; fi
exit 0
`;
const GO_ON =
  'rm -f /run/hold-prepare; kill -CONT $(systemctl show --value --property=MainPID virt-trust-agent); true';

type Purpose = Pick<TestCertificateOptions, 'purposes' | 'keyUsage' | 'key' | 'notBefore'>;
const purpose = (oid: string, critical = false): Purpose => ({ purposes: { oids: [oid], critical } });
const usage = (base: Purpose, usages: readonly KeyUsage[]): Purpose => ({
  ...base,
  keyUsage: { usages, critical: false },
});
const RIGHT = { server: purpose(OID.serverAuth), client: purpose(OID.clientAuth) } as const;
const ahead = (milliseconds: number): Clock => ({ now: () => instant(systemClock.now() + milliseconds) });

describe('what the preflight says of a pair, and what libvirt and QEMU do', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let authority: TestIdentity;
  let plans: PairPlans;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-pairs-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    plans = new PairPlans(fleet);
    await b.writeFile('/etc/libvirt/hooks/qemu', HOOK, 0o755);
    // libvirt looks for hooks when it starts.
    await b.run(['sh', '-c', RESTARTED]);
    for (const name of ['host-a', 'host-b']) await fleet.add(name);
    await startVm(a, { name: 'guest' });
    authority = await makeTestCertificate({ subject: 'CN=Story CA', ca: true });
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  /** What is found, in words. */
  async function said(code: string, host: string, more: Partial<MigrateVm> = {}): Promise<string> {
    const { findings } = await plans.finds(code, host, more);
    const found = findings.filter((one) => one.code === code && one.host === host);
    return found.map(({ what }) => what).join('\n');
  }

  /** Nothing is against it, and it really migrates. */
  async function arrives(more: Partial<MigrateVm> = {}): Promise<MigrationPlan> {
    const made = await plans.plan(more);
    assert.equal(made.ready, true, JSON.stringify(made.findings, null, 1));
    await fleet.finished(await fleet.client.call(createMigrationJob, { body: plans.order(more) }));
    assert.ok((await runningVms(plans.order(more).to === 'host-b' ? b : a)).includes(plans.order(more).vm));
    return made;
  }
  const back = { from: 'host-b', to: 'host-a' };

  const files = new MountedFiles();
  async function serve(host: Host, end: 'server' | 'client', of: Purpose): Promise<void> {
    const made = await makeTestCertificate({
      subject: 'O=Story,CN=host',
      issuer: authority,
      names: [{ kind: 'ip', value: host.address }],
      ...of,
    });
    await files.put(host, `${DIRECTORY}/${end}-cert.pem`, made.pem, 0o644);
    await files.put(host, `${DIRECTORY}/${end}-key.pem`, made.keyPem, 0o644);
  }
  /** Both hosts trust an authority of the story's own and serve what it issued; as told by their agents, too. */
  async function serveOwn(): Promise<void> {
    for (const host of [a, b]) {
      await files.put(host, `${DIRECTORY}/ca-cert.pem`, authority.pem, 0o644);
      for (const end of ['server', 'client'] as const) await serve(host, end, RIGHT[end]);
    }
    await plans.isReady();
  }

  async function startPicky(devices: string, more = ''): Promise<void> {
    for (const host of [a, b]) await host.exec([...VIRSH, 'destroy', 'picky']);
    await a.writeFile('/run/picky.xml', PICKY(devices, more));
    await a.run([...VIRSH, 'create', '/run/picky.xml']);
  }
  const sh = (host: Host, words: string) => host.run(['sh', '-c', words], { timeout: PATIENCE });
  const picky = (more: Partial<MigrateVm> = {}) => ({ vm: 'picky', flags: UNSAFE, ...more });

  // What a step that failed left behind is nothing to the next.
  afterEach(() =>
    setRight(
      () => sh(b, GO_ON),
      () => files.giveBack(),
      ...[a, b].map((host) => () => sh(host, 'virsh destroy picky; virsh destroy early; true')),
      () => sh(b, NO_MACHINE_MENDED),
      () => sh(b, ONE_CPU_MENDED),
      () => giveCpusBack(b),
      ...[a, b].map((host) => () => sh(host, NO_DISKS)),
      async () => {
        if ((await runningVms(b)).includes('guest')) await b.run([...VIRSH, 'destroy', 'guest']);
        if (!(await runningVms(a)).includes('guest')) await startVm(a, { name: 'guest' });
      },
    ),
  );

  it('1. warns of certificates for another purpose that QEMU takes, and migrates with them', async () => {
    await serveOwn();
    for (const host of [a, b]) {
      await serve(host, 'server', purpose(OID.clientAuth));
      await serve(host, 'client', purpose(OID.serverAuth));
    }
    const made = await plans.isReady();
    for (const file of ['server-cert.pem', 'client-cert.pem'])
      for (const host of ['host-a', 'host-b'])
        assert.ok(
          made.findings.some(
            (one) =>
              one.code === 'certificate.purpose' &&
              one.severity === 'warning' &&
              one.host === host &&
              one.what.includes(`${DIRECTORY}/${file}`),
          ),
          JSON.stringify(made.findings, null, 1),
        );
    await arrives();
    await arrives(back);
  });

  it('2. sees a server’s certificate, and a client’s, that are critically for something else, and QEMU refuses', async () => {
    await serveOwn();
    await serve(b, 'server', purpose(OID.clientAuth, true));
    assert.match(await said('certificate.purpose', 'host-b'), /server-cert\.pem.*TLS server/);
    await plans.failsWith(/purpose does not allow use with a TLS server|no TLS for migrations/);
    await serve(b, 'server', RIGHT.server);
    await plans.isReady();
    await serve(a, 'client', purpose(OID.serverAuth, true));
    assert.match(await said('certificate.purpose', 'host-a'), /client-cert\.pem.*TLS client/);
    await plans.failsWith(/purpose does not allow use with a TLS client|no TLS for migrations/);
  });

  it('3. sees keys that may not sign, with which QEMU’s handshake breaks; an RSA server’s needs not', async () => {
    await serveOwn();
    await serve(b, 'server', usage(RIGHT.server, ['keyEncipherment']));
    await plans.finds('handshake.failed', 'host-b');
    await plans.failsWith(/TLS/);
    await serve(b, 'server', { ...usage(RIGHT.server, ['keyEncipherment']), key: 'rsa' });
    await plans.isReady();
    await arrives();
    await arrives({ ...back, mode: ['pinned'] });
    await serve(b, 'server', RIGHT.server);
    await plans.isReady();
    await serve(a, 'client', usage(RIGHT.client, ['keyEncipherment']));
    await plans.finds('handshake.failed', 'host-b');
    await plans.failsWith(/TLS/);
  });

  it('4. sees certificates that are not yet valid at either end, and QEMU refuses', async () => {
    await serveOwn();
    const later = { notBefore: '2035-01-01T00:00:00Z' };
    await serve(b, 'server', { ...RIGHT.server, ...later });
    assert.match(await said('certificate.not_yet_valid', 'host-b'), /server-cert\.pem.*2035-01-01/);
    await plans.failsWith(/not yet active|no TLS for migrations/);
    await serve(b, 'server', RIGHT.server);
    await plans.isReady();
    await serve(a, 'client', { ...RIGHT.client, ...later });
    assert.match(await said('certificate.not_yet_valid', 'host-a'), /client-cert\.pem.*2035-01-01/);
    await plans.failsWith(/not yet active|no TLS for migrations/);
  });

  it('5. sees a machine type that the destination has not, and libvirt fails over it', async () => {
    await startPicky('');
    await plans.isReady({ vm: 'picky' });
    await sh(b, NO_MACHINE);
    assert.match(await said('vm.machine_type', 'host-b', { vm: 'picky' }), new RegExp(MACHINE));
    await plans.failsWith(/does not support machine type/, { vm: 'picky' });
    await sh(b, NO_MACHINE_MENDED);
    await arrives({ vm: 'picky' });
  });

  it('6. sees parts of a VM that are pinned to CPUs that the destination has not, and libvirt fails over each', {
    skip: hasCpus ? false : 'no CPU can be taken from a host here',
  }, async () => {
    const pinned = {
      'vCPU 0': "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>",
      'the emulator': "<cputune><emulatorpin cpuset='1'/></cputune>",
      'I/O thread 1': "<iothreads>1</iothreads><cputune><iothreadpin iothread='1' cpuset='1'/></cputune>",
    };
    await startPicky('', pinned['vCPU 0']);
    await arrives({ vm: 'picky' });
    await sh(b, ONE_CPU);
    await leaveFirstCpu(b);
    for (const [part, xml] of Object.entries(pinned)) {
      await startPicky('', xml);
      assert.match(await said('vm.pinning', 'host-b', { vm: 'picky' }), new RegExp(`${part} to 1`));
      await plans.failsWith(/cannot set CPU affinity/, { vm: 'picky' });
    }
    await startPicky('', "<cputune><vcpupin vcpu='0' cpuset='0-1'/></cputune>");
    await arrives({ vm: 'picky' });
  });

  it('7. sees disks that QEMU would not open under their path, and it does not', async () => {
    const cases: readonly (readonly [code: string, there: string, words: RegExp, format?: string])[] = [
      ['disk.no_file', 'mkdir $disk', /regular file/],
      ['disk.unreadable', 'truncate -s 1M $disk; chmod 000 $disk', /Permission denied/],
      [
        'disk.read_only',
        'truncate -s 1M $disk; mount --bind $disk $disk; mount -o remount,ro,bind $disk',
        /Read-only file system|Permission denied/,
      ],
      ['disk.other_format', 'truncate -s 1M $disk', /not in qcow2 format/, 'qcow2'],
      ['disk.base_missing', `${BASED}; rm /srv/base`, /No such file/, 'qcow2'],
      ['disk.unreadable', `${BASED}; chmod 000 /srv/base`, /Permission denied/, 'qcow2'],
    ];
    for (const [code, there, words, format = 'raw'] of cases) {
      for (const host of [a, b]) await sh(host, NO_DISKS);
      // What has no base at the source has none at the destination either, whatever the image there says.
      const here = there.includes(BASED) ? BASED : `qemu-img create -q -f ${format} $disk 1M`;
      await sh(a, `disk=/srv/picky.img; ${here}`);
      await startPicky(DISK('/srv/picky.img', format));
      await sh(b, `disk=/srv/picky.img; ${there}`);
      await plans.finds(code, 'host-b', picky());
      await plans.failsWith(words, picky());
    }
  });

  it('8. has nothing against disks that QEMU opens, wherever they are, and warns of another image', async () => {
    for (const place of ['/srv', '/home/picky', '/tmp/picky', '/dev/picky']) {
      for (const host of [a, b])
        await sh(host, `mkdir -p ${place}; truncate -s 1M ${place}/disk; chmod 600 ${place}/disk`);
      await startPicky(DISK(`${place}/disk`));
      await arrives(picky());
    }
    for (const host of [a, b])
      await sh(host, 'truncate -s 1M /srv/base; qemu-img create -q -f qcow2 -b base -F raw /srv/top');
    await startPicky(DISK('/srv/top', 'qcow2'));
    await arrives(picky());
    await sh(a, 'truncate -s 1M /srv/other');
    await sh(b, 'truncate -s 2M /srv/other');
    await startPicky(DISK('/srv/other'));
    const { findings } = await arrives(picky());
    assert.ok(
      findings.some(({ code, severity }) => code === 'disk.other_size' && severity === 'warning'),
      JSON.stringify(findings, null, 1),
    );
  });

  const ended = (job: Job) =>
    until('see the job end', PATIENCE, async () => {
      const last = await fleet.client.call(getJob, { params: { id: job.id } });
      return last.finishedAt === null ? undefined : last;
    });
  const cancel = (job: Job) => fleet.client.call(cancelJob, { params: { id: job.id } });
  const step = (job: Job, name: string) =>
    whileRunning(fleet, job, `see it at ${name}`, ({ steps, migration }) =>
      steps.some((one) => one.name === name && one.state === 'running') || migration?.step === name
        ? true
        : undefined,
    );

  it('9. is cancelled in each phase before post-copy: queued, checked, prepared, under way', async () => {
    await startGuest(a, GUEST);
    await receiveGuest(b, GUEST);
    const slow = plans.order({ vm: GUEST.name, bandwidthMiB: 1 });
    const running = await migrate(fleet, slow);
    await step(running, 'perform');
    const queued = await migrate(fleet, slow);
    assert.equal((await cancel(queued)).state, 'cancelled');
    await cancelled(fleet, running, GUEST, a, b);

    await b.run(['systemctl', 'kill', '--signal=STOP', '--kill-whom=main', 'virt-trust-agent']);
    const checked = await migrate(fleet, slow);
    await step(checked, 'Check the pair');
    await cancelled(fleet, checked, GUEST, a, b);
    await sh(b, GO_ON);
    await plans.isReady({ vm: GUEST.name });

    await sh(b, 'touch /run/hold-prepare');
    const prepared = await migrate(fleet, slow);
    await step(prepared, 'prepare');
    await cancel(prepared);
    await sh(b, GO_ON);
    assert.equal((await ended(prepared)).state, 'cancelled');
    assert.deepEqual([await vmState(a, GUEST.name), await vmState(b, GUEST.name)], ['running', '']);
    await livesOn(a, GUEST);
  });

  for (const mode of ['tls', 'pinned'] as const)
    it(`10. ${mode}: is not cancelled in post-copy any more, and says where the VM is and what to do`, async () => {
      await startGuest(a, { ...GUEST, dirtyMiBPerSecond: 40 });
      await receiveGuest(b, GUEST);
      const job = await withUserfaultfd(true, async () => {
        const begun = await migrate(
          fleet,
          plans.order({ vm: GUEST.name, mode: [mode], postCopy: true, bandwidthMiB: 4 }),
        );
        await whileRunning(fleet, begun, 'see it send', ({ progress }) =>
          (progress?.memory?.processedBytes ?? 0) > 0 ? true : undefined,
        );
        await a.run([...VIRSH, 'migrate-setspeed', GUEST.name, '1', '--postcopy']);
        await whileRunning(fleet, begun, 'see post-copy', ({ progress }) =>
          progress?.stage === 'post-copy' ? true : undefined,
        );
        return begun;
      });
      assert.match((await a.exec([...VIRSH, 'domjobabort', GUEST.name])).stderr, /post-copy/);
      await assert.rejects(cancel(job), (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, 'migration.post_copy');
        assert.match(error.message, /early runs on host-b already.*host-a.*no way back/);
        assert.match(error.hint ?? '', /virt-trust job watch/);
        return true;
      });
      assert.deepEqual([await vmState(a, GUEST.name), await vmState(b, GUEST.name)], ['paused', 'running']);
      await a.run([...VIRSH, 'migrate-setspeed', GUEST.name, UNLIMITED, '--postcopy']);
      const last = await ended(job);
      assert.deepEqual([last.state, last.migration?.runsOn], ['done', 'destination']);
      assert.deepEqual([await vmState(a, GUEST.name), await vmState(b, GUEST.name)], ['', 'running']);
      await livesOn(b, GUEST);
    });

  // The last: a manager of tomorrow issues what hosts of today cannot use.
  it('11. sees that the hosts’ clocks are not the manager’s, and begins nothing that would not be valid there', async () => {
    await fleet.stopManager();
    await fleet.startManager(ahead(DAY));
    await until('see both hosts', PATIENCE, async () => {
      const both = await Promise.all(['host-a', 'host-b'].map((name) => fleet.show(name)));
      return both.every(({ channel }) => channel === 'up') ? true : undefined;
    });
    for (const host of ['host-a', 'host-b'])
      assert.match(await said('clock.wrong', host), /86400 s behind the manager's/);
    await plans.failsWith(/host\.clock_skew: .*its clock says/);
    await fleet.stopManager();
    await fleet.startManager();
    const { findings } = await plans.plan();
    assert.ok(!findings.some(({ code }) => code.startsWith('clock.')), JSON.stringify(findings, null, 1));
  });
});
