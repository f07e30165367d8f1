import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant, MINUTE } from '@virt-trust/base/instant.ts';
import { listAuthorities } from '@virt-trust/contract/manager/certificate-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { qemuProcesses, runningVms, startVm } from '../src/vm.ts';
import { eventsOn, untilObserved } from './agent-sight.ts';
import { Fleet } from './fleet.ts';
import { UNMOUNT } from './mounts.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

/** A manager whose clock differs from the hosts': what it makes ends sooner there than it knows. */
const shifted = (milliseconds: number): Clock => ({
  now: () => instant(systemClock.now() + milliseconds),
});

/** The shortest lifetime, of which the hosts see two minutes: on a busy machine it takes one of them to be served. */
const BEHIND = shifted(-3 * MINUTE);
/** An issuing authority lives ten years: made by this clock, it ends four minutes from now. */
const TEN_YEARS_AGO = shifted(4 * MINUTE - 10 * 365 * DAY);

async function setShortLives(fleet: Fleet): Promise<void> {
  for (const setting of ['certificate.lifetime', 'certificate.restart_lifetime'])
    await fleet.client.call(putSetting, { params: { setting }, query: {}, body: { value: '5m' } });
  await fleet.client.call(putSetting, {
    params: { setting: 'probe.interval_seconds' },
    query: {},
    body: { value: 2 },
  });
}

/** When the first, or the last, of the certificates in a file expires. */
async function expiryOf(host: Host, path: string, which: 'first' | 'all' = 'all'): Promise<number> {
  const blocks = (await host.readFile(path)).match(
    /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g,
  );
  const ends = (blocks ?? []).map((pem) => new X509Certificate(pem).validToDate.getTime());
  const end = which === 'first' ? ends[0] : Math.max(...ends);
  assert.ok(end !== undefined && end - Date.now() < 10 * MINUTE, `${path} does not expire soon`);
  return end;
}

/** Waits until a time is over, also where seconds alone count. */
const untilAfter = (time: number) => delay(Math.max(0, time - Date.now()) + 1500);

/** A time that systemd noted of a unit, in microseconds since the boot. */
function noted(host: Host, unit: string, property: string): Promise<number> {
  return host.run(['systemctl', 'show', '--value', `--property=${property}`, unit]).then(Number);
}

describe('rescue: everything has expired and the manager is gone', { skip }, () => {
  let fleet: Fleet;
  let a: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `rescue-gone-${process.pid}`, hosts: ['host-a'], clock: TEN_YEARS_AGO });
    a = fleet.host('host-a');
    await fleet.stopManager();
    await fleet.startManager(BEHIND);
    await setShortLives(fleet);
    await fleet.add('host-a');
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. serves certificates, and an authority, that end within minutes', async () => {
    await startVm(a, { name: 'elder', vncListen: '0.0.0.0' });
    const { items } = await fleet.client.call(listAuthorities, {});
    assert.ok(items.length > 0);
    await fleet.stopManager();
    await untilAfter(await expiryOf(a, '/etc/pki/libvirt-vnc/server-cert.pem'));
  });

  it('2. while it runs, a VM can be started still, and the running one is not touched', async () => {
    const before = await qemuProcesses(a);
    await untilObserved(a, 'see the rescue', ({ rescues }) =>
      rescues.some(({ service }) => service === 'vnc') ? true : undefined,
    );
    await startVm(a, { name: 'young', vncListen: '0.0.0.0' });
    assert.deepEqual(
      (await qemuProcesses(a)).filter(({ vm }) => vm === 'elder'),
      before,
    );
  });

  it('3. booted with everything expired, libvirtd runs, a VM with VNC TLS starts, and the agent tells', async () => {
    await untilAfter(await expiryOf(a, '/etc/pki/CA/cacert.pem', 'first'));
    await a.poweroff();
    await a.boot();
    const guard = await noted(a, 'virt-trust-guard.service', 'ExecMainExitTimestampMonotonic');
    const socket = await noted(a, 'libvirtd.socket', 'ActiveEnterTimestampMonotonic');
    const state = await a.run([
      'systemctl',
      'show',
      '--value',
      '--property=Result',
      'virt-trust-guard.service',
    ]);
    assert.equal(state.trim(), 'success');
    assert.ok(0 < guard && guard <= socket, `guard ${guard}, socket ${socket}`);
    assert.equal((await a.run(['systemctl', 'is-active', 'libvirtd-tls.socket'])).trim(), 'active');
    await a.run(['virsh', '-c', 'qemu:///system', 'version', '--daemon']);
    await startVm(a, { name: 'guest', vncListen: '0.0.0.0' });
    assert.deepEqual(await runningVms(a), ['guest']);
    const { rescues, credentials } = await untilObserved(a, 'hear its agent', (observed) => observed);
    assert.deepEqual(
      rescues.map(({ service }) => service),
      ['vnc'],
    );
    assert.ok(credentials.every(({ notAfter }) => notAfter !== null && notAfter < Date.now()));
    assert.ok((await eventsOn(a)).some(({ kind, subject }) => kind === 'rescue.made' && subject === 'vnc'));
    const text = await a.run(['virt-trust', 'agent', 'status']);
    assert.match(text, /rescue +vnc goes on with a set of the host's own/);
  });

  it('4. the guard holds nothing up where it cannot write, and does its work at the next occasion', async () => {
    // The rescue set goes, and nothing can be written in its place.
    const script = `set -e
service=/var/lib/virt-trust/services/vnc
systemctl stop virt-trust-agent.service
ln -sfn "$(cd $service && ls -d generations/[1-9]*)" $service/current
mount --bind -o ro $service/generations $service/generations; mount -o remount,ro,bind $service/generations
virt-trust agent guard; echo "ended with $?"
${UNMOUNT} $service/generations
virt-trust agent guard
readlink $service/current`;
    const said = await a.run(['sh', '-c', script]);
    assert.match(said, /could not help vnc/);
    assert.match(said, /ended with 0\b/);
    // Which it says where its own bound has ended it, and not the failure.
    assert.doesNotMatch(said, /gave up/);
    assert.match(said, /generations\/rescue-\d+\s*$/);
    await a.run(['systemctl', 'start', 'virt-trust-agent.service']);
  });
});

describe('rescue: a host whose certificates expired while it was off', { skip }, () => {
  let fleet: Fleet;
  let a: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `rescue-off-${process.pid}`, hosts: ['host-a'], clock: BEHIND });
    a = fleet.host('host-a');
    await setShortLives(fleet);
    await fleet.add('host-a');
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. comes up, and its VMs start, with nobody there', async () => {
    await fleet.stopManager();
    const end = await expiryOf(a, '/etc/pki/libvirt/servercert.pem');
    await a.poweroff();
    await untilAfter(end);
    await a.boot();
    await a.run(['systemctl', 'mask', '--now', 'ssh.service', 'ssh.socket']);
    await startVm(a, { name: 'guest', vncListen: '0.0.0.0' });
    await untilObserved(a, 'see the rescue', ({ rescues }) => (rescues.length > 0 ? true : undefined));
  });

  it('2. is brought back by the manager over the channel, without SSH and without a person', async () => {
    await fleet.startManager(systemClock);
    for (const [setting, value] of [
      ['certificate.lifetime', '180d'],
      ['certificate.restart_lifetime', '2y'],
    ] as const)
      await fleet.client.call(putSetting, { params: { setting }, query: {}, body: { value } });
    const vms = await qemuProcesses(a);
    await untilObserved(a, 'see every certificate renewed', ({ credentials, rescues, busy }) => {
      const good = credentials.every(
        ({ notAfter, phase }) => phase === 'settled' && (notAfter ?? 0) > Date.now() + DAY,
      );
      return good && rescues.length === 0 && !busy ? true : undefined;
    });
    assert.deepEqual(await qemuProcesses(a), vms);
    const served = await untilObserved(a, 'see VNC served anew', ({ served: all, credentials }) => {
      const { pin } = credentials.find(({ service }) => service === 'vnc') ?? {};
      return all.find(({ vm, servedPin }) => vm === 'guest' && servedPin === pin);
    });
    assert.equal(served.state, 'as-desired');
    assert.deepEqual(
      (await a.run(['ls', '/var/lib/virt-trust/services/vnc/generations']))
        .split('\n')
        .filter((name) => name.startsWith('rescue')),
      [],
    );
  });
});
