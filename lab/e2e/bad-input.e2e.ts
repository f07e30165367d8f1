import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { HOUR, instant, MINUTE } from '@virt-trust/base/instant.ts';
import { collectHost, provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { Fleet } from './fleet.ts';
import { setRight } from './leftovers.ts';
import { makeReadOnly } from './mounts.ts';
import { RESTART_LIBVIRTD } from './restart-libvirtd.ts';
import { servedSets } from './served-sets.ts';
import { sightOf } from './sight.ts';
import { toldBy } from './told.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const STATE = '/var/lib/virt-trust';
const FILLER = `${STATE}/filler`;
const ENOUGH_SPACE = `mount -o remount,size=64m ${STATE}`;
/** An /etc on a file system of its own, which is then read-only for every process or for none. */
const OWN_ETC =
  'mkdir /run/etc && mount -t tmpfs -o mode=755 tmpfs /run/etc && cp -a /etc/. /run/etc && mount --bind /run/etc /etc';
const WRITABLE_ETC = 'if mountpoint -q /run/etc; then mount -o remount,rw /run/etc; fi';
const LIBVIRTD_CONF = '/etc/libvirt/libvirtd.conf';
const ADMIT_ALL = `if grep -q '"CN=nobody"' ${LIBVIRTD_CONF}; then
sed -i /tls_allowed_dn_list.*nobody/d ${LIBVIRTD_CONF} && ${RESTART_LIBVIRTD}; fi`;
const SOCKETS = ['libvirtd.socket', 'libvirtd-ro.socket', 'libvirtd-admin.socket'];
const START_LIBVIRT = `systemctl start ${SOCKETS.join(' ')} libvirtd.service`;

describe('a host on which something is wrong', { skip }, () => {
  let fleet: Fleet;
  let host: Host;
  let asFound: string;

  before(async () => {
    fleet = await Fleet.up({ lab: `fail-host-${process.pid}`, hosts: ['host-a'] });
    host = fleet.host('host-a');
    asFound = await sightOf(host);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const sh = (script: string) => host.run(['sh', '-c', script]);
  // What a step that failed left behind is nothing to the next.
  afterEach(() =>
    setRight(
      () => sh(WRITABLE_ETC),
      () => sh(`if mountpoint -q ${STATE}; then rm -f ${FILLER}; ${ENOUGH_SPACE}; fi`),
      () => sh(START_LIBVIRT),
      () => sh(ADMIT_ALL),
    ),
  );
  const provision = async (renew: boolean) =>
    fleet.finished(await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: { renew } }));

  /** All but the agent's own unit is as it was found. */
  async function untouched(): Promise<void> {
    const agentOnly = (text: string) => text.replaceAll(/^virt-trust.*\n/gm, '');
    assert.equal(agentOnly(await sightOf(host)), asFound);
  }

  /** What was served goes on to be served, and nothing of a later attempt is left. */
  async function stillServed(before: Awaited<ReturnType<typeof servedSets>>): Promise<void> {
    assert.deepEqual(await servedSets(host), before);
  }

  it('1. refuses a first deployment where /etc is read-only, before anything is installed', async () => {
    await sh(OWN_ETC);
    await makeReadOnly(host, '/run/etc');
    const told = await toldBy(fleet.add('host-a'));
    await sh(WRITABLE_ETC);
    assert.equal(told.code, 'host.install_failed');
    assert.match(told.message, /host-a: .*\/etc.* is on a read-only file system/);
    assert.match(told.hint, /remount,rw/);
    assert.equal((await host.exec(['test', '-e', STATE])).code, 1);
    await untouched();
  });

  it('2. refuses a first deployment where no space is left for the state', async () => {
    await sh(`mkdir ${STATE} && mount -t tmpfs -o size=8m tmpfs ${STATE}`);
    const told = await toldBy(fleet.add('host-a'));
    assert.equal(told.code, 'host.install_failed');
    assert.match(told.message, /host-a: .*no space is left at \/var\/lib\/virt-trust/);
    assert.match(told.hint, /Free 32 MiB/);
    assert.equal(await sh(`ls -A ${STATE}`), '');
    await sh(ENOUGH_SPACE);
    await untouched();
  });

  it('3. says which unit is stopped, and leaves nothing half done', async () => {
    await sh(`systemctl stop ${SOCKETS.join(' ')} libvirtd.service`);
    for (const attempt of [() => fleet.add('host-a'), () => provision(false)]) {
      const told = await toldBy(attempt());
      assert.equal(told.code, 'libvirt.stopped');
      assert.match(told.message, /host-a: .*libvirtd\.service.*stopped/);
      assert.match(told.hint, /systemctl start .*libvirtd/);
      await untouched();
    }
    assert.match((await fleet.show('host-a')).reason ?? '', /libvirtd\.service/);
    await sh(START_LIBVIRT);
  });

  it('4. goes back where the disk fills up during the deployment, and completes once there is space', async () => {
    // Room for one small file more each time, so that another step meets the full disk.
    for (const kilobytes of [0, 40, 280, 320, 360]) {
      await fill(kilobytes);
      const told = await toldBy(provision(false));
      assert.match(told.message, /host-a/);
      assert.match(`${told.code} ${told.message}`, /disk_full|no space/i, JSON.stringify(told));
      assert.match(told.hint, /[Ff]ree/, JSON.stringify(told));
      await sh(`rm -f ${FILLER}`);
      await untouched();
    }
    await provision(false);
    assert.equal((await fleet.show('host-a')).state, 'secured');
  });

  it('5. serves the old sets where the disk fills up during a renewal, and renews once there is space', async () => {
    const before = await servedSets(host);
    for (const kilobytes of [0, 40, 280, 300]) {
      await fill(kilobytes);
      const told = await toldBy(provision(true));
      assert.match(`${told.code} ${told.message}`, /disk_full|no space/i, JSON.stringify(told));
      await stillServed(before);
      await sh(`rm -f ${FILLER}`);
    }
    await provision(true);
    const now = await servedSets(host);
    assert.notEqual(now.onDisk.libvirt, before.onDisk.libvirt);
    assert.equal(now.shown, now.onDisk.libvirt);
  });

  it('6. renews although /etc is read-only by now', async () => {
    const before = await servedSets(host);
    await makeReadOnly(host, '/run/etc');
    const agent = (await sh('systemctl show -P MainPID virt-trust-agent.service')).trim();
    const write = ['nsenter', '--target', agent, '--mount', 'touch', '/etc/x'];
    assert.match((await host.exec(write)).stderr, /Read-only file system/);
    await provision(true);
    assert.notEqual((await servedSets(host)).shown, before.shown);
    await sh('systemctl restart virt-trust-agent.service');
    await provision(true);
  });

  it('7. goes back with the reason where libvirtd turns away the clients that the certificate is for', async () => {
    const before = await servedSets(host);
    await sh(`echo 'tls_allowed_dn_list = ["CN=nobody"]' >>${LIBVIRTD_CONF} && ${RESTART_LIBVIRTD}`);
    const told = await toldBy(provision(true));
    assert.equal(told.code, 'apply.proof_refused');
    assert.match(told.message, /host-a/);
    await stillServed(before);
    const { observed } = await fleet.client.call(collectHost, { params: { name: 'host-a' } });
    const libvirt = observed?.credentials.find(({ service }) => service === 'libvirt');
    assert.equal(libvirt?.failure?.code, 'apply.proof_refused');
    await sh(ADMIT_ALL);
    await provision(true);
    assert.notEqual((await servedSets(host)).shown, before.shown);
  });

  it('8. is renewed by a manager whose clock is up to an hour off, and by no other', async () => {
    for (const minutes of [59, -59]) {
      await restartManager({ now: () => instant(systemClock.now() + minutes * MINUTE) });
      const before = await servedSets(host);
      await provision(true);
      assert.notEqual((await servedSets(host)).shown, before.shown, `${minutes} minutes`);
    }
    const before = await servedSets(host);
    for (const hours of [2, -2]) {
      await restartManager({ now: () => instant(systemClock.now() + hours * HOUR) });
      for (const attempt of [() => provision(true), () => fleet.add('host-a')]) {
        const told = await toldBy(attempt());
        assert.equal(told.code, 'host.clock_skew');
        assert.match(told.message, /its clock says \d{4}-.*Z and the manager's says \d{4}-.*Z/);
        assert.match(told.hint, /set-ntp/);
      }
      await stillServed(before);
    }
  });

  it('9. is given back what was found, on the disk that was mounted for it', async () => {
    await restartManager();
    await provision(false);
    await fleet.remove('host-a');
    await untouched();
  });

  async function restartManager(clock?: Clock): Promise<void> {
    await fleet.stopManager();
    await fleet.startManager(clock);
  }

  /** Leaves so many kilobytes free for the agent's state, whatever the agent wrote meanwhile. */
  async function fill(kilobytes: number): Promise<void> {
    await sh(`cat /dev/zero >${FILLER} 2>/dev/null; truncate --size=-${kilobytes}K ${FILLER}`);
  }
});
