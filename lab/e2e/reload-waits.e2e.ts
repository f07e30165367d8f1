import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { isTrustError } from '@virt-trust/base/error.ts';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import { renewCertificate } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import { findIntact, type Guest, guestWords, guestXml, receiveGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { runningVms } from '../src/vm.ts';
import { eventsOn, observedOn, untilObserved } from './agent-sight.ts';
import { Fleet } from './fleet.ts';
import { jobFigure, migrate, vmState } from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

/** At 1 MiB/s it never arrives, however slowly a step is taken. */
const GUEST: Guest = { name: 'guest', memoryMiB: 64, dirtyMiBPerSecond: 4 };
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const PATIENCE = 180_000;
/** As fast as the network goes. */
const UNLIMITED = '8796093022207';

describe('renewals and restarts while a VM migrates', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-waits-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    // So that somebody can migrate beside virt-trust.
    await setUpAsFound([a, b], { libvirt: 'tcp', qemuTls: false });
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    const xml = guestXml(GUEST).replace(
      '</devices>',
      "<graphics type='vnc' autoport='yes' listen='0.0.0.0'/></devices>",
    );
    for (const host of [a, b]) {
      await receiveGuest(host, GUEST);
      await host.writeFile('/run/guest.xml', xml);
    }
  });
  after(() => fleet?.[Symbol.asyncDispose]());
  // Of a step that failed: else the next finds the guest on its way, or where that does not begin.
  afterEach(async () => {
    for (const host of [a, b]) await host.exec([...VIRSH, 'domjobabort', GUEST.name]);
    await underWay?.catch(() => {});
    underWay = undefined;
    for (const host of [a, b]) await host.exec([...VIRSH, 'destroy', 'other']);
  });
  /** What virsh said at the end of the migration that was begun last. */
  let underWay: Promise<string> | undefined;

  const set = (setting: string, value: string | null, host: string) =>
    fleet.client.call(putSetting, { params: { setting }, query: { host }, body: { value } });
  const provision = (name: string) => fleet.client.call(provisionHost, { params: { name }, body: {} });
  const serialOf = async (host: string, service: Service) =>
    (await fleet.show(host)).observed?.credentials.find((one) => one.service === service)?.serialNumber ?? '';
  const renew = async (host: string, service: Service) =>
    await fleet.client.call(renewCertificate, { params: { serial: await serialOf(host, service) } });
  const daemonOf = (host: Host) =>
    host.run(['systemctl', 'show', '--property=MainPID', '--value', 'libvirtd']);
  const jobNow = (job: Job) => fleet.client.call(getJob, { params: { id: job.id } });
  const waitOf = async (host: Host) =>
    (await observedOn(host)).pending.find((one) => one.until !== undefined);
  const untilWaiting = (host: Host) =>
    until(`see ${host.name} wait for the migration`, PATIENCE, () => waitOf(host));

  /** A migration by somebody else's virsh, at 1 MiB/s; resolves with what virsh said at its end. */
  async function slowly(from: Host, to: Host): Promise<{ readonly migration: Promise<string> }> {
    await standOn(from, to);
    const uri = `qemu+tcp://${to.address}/system`;
    const argv = [...VIRSH, 'migrate', '--live', '--bandwidth', '1', GUEST.name, uri];
    const migration = from
      .exec(argv, { timeout: 600_000 })
      .then(({ code, stderr }) => (code === 0 ? '' : stderr));
    underWay = migration;
    await until('see it under way', PATIENCE, async () => {
      if ((await jobFigure(from, GUEST.name, 'memory_processed')) > 0) return true;
      await assertUnderWay(migration);
      return undefined;
    });
    return { migration };
  }
  /** Has the guest run on one host alone, as it does unless a step before failed. */
  async function standOn(here: Host, other: Host): Promise<void> {
    if ((await vmState(here, GUEST.name)) === 'running') return;
    for (const host of [here, other]) await host.exec([...VIRSH, 'destroy', GUEST.name]);
    await here.run([...VIRSH, 'create', '/run/guest.xml']);
    await until('see the guest fill its memory', PATIENCE, async () =>
      (await guestWords(here, GUEST)).filled ? true : undefined,
    );
  }
  const letGo = (from: Host) => from.run([...VIRSH, 'migrate-setspeed', GUEST.name, UNLIMITED]);
  const assertUnderWay = async (migration: Promise<string>) =>
    assert.equal(await Promise.race([migration, setImmediate('under way')]), 'under way');

  it('1. renews every certificate of both hosts at once under a running migration, which survives, and proves the new ones', async () => {
    const [daemonA, daemonB] = [await daemonOf(a), await daemonOf(b)];
    const { migration } = await slowly(a, b);
    const renewed = ['host-a', 'host-b'].map(async (host) => {
      for (const service of ['libvirt', 'migration', 'vnc'] as const) {
        const before = await serialOf(host, service);
        await fleet.finished(await renew(host, service));
        assert.notEqual(await serialOf(host, service), before, `${service} of ${host}`);
      }
    });
    await Promise.all(renewed);
    await assertUnderWay(migration);
    assert.deepEqual([await daemonOf(a), await daemonOf(b)], [daemonA, daemonB]);
    for (const host of [a, b]) {
      const { credentials } = await observedOn(host);
      for (const { service, phase, proofs, pin } of credentials)
        assert.ok(phase === 'settled' && proofs.every(({ servedPin }) => servedPin === pin), service);
    }
    // QEMU lets nobody at a VM that arrives.
    await untilObserved(b, 'be told of the VM that arrives', ({ pending }) =>
      pending.find(
        ({ what, action }) => what === 'vnc of guest' && action.includes('once the VM has arrived'),
      ),
    );
    await letGo(a);
    assert.equal(await migration, '');
    await findIntact(b, GUEST);
    const served = await untilObserved(b, 'its VNC served anew', ({ served: all, credentials }) => {
      const { pin } = credentials.find(({ service }) => service === 'vnc') ?? {};
      return all.find(({ vm, servedPin }) => vm === GUEST.name && servedPin === pin);
    });
    assert.equal(served.state, 'as-desired');
  });

  it('2. lets a restart wait for a migration that arrives and says so, then restarts', async () => {
    const daemon = await daemonOf(a);
    const { migration } = await slowly(b, a);
    await set('console.listen', 'password', 'host-a');
    const job = await provision('host-a');
    const wait = await untilWaiting(a);
    assert.match(wait.why, /guest \(incoming\)/);
    const capabilities = await until(
      'see it reported',
      PATIENCE,
      async () => (await observedOn(a)).capabilities?.reloadWaits[0],
    );
    assert.match(capabilities, /guest \(incoming\)/);
    await until('see the job say so', PATIENCE, async () =>
      (await jobNow(job)).steps.some(({ detail }) => /waits for the migration of guest/.test(detail))
        ? true
        : undefined,
    );
    assert.equal(await daemonOf(a), daemon);
    await letGo(b);
    assert.equal(await migration, '');
    await fleet.finished(job);
    assert.notEqual(await daemonOf(a), daemon);
    assert.equal(await vmState(a, GUEST.name), 'running');
    assert.equal(await waitOf(a), undefined);
  });

  it('3. goes first: no migration of its own begins there meanwhile', async () => {
    const { migration } = await slowly(a, b);
    await set('console.listen', 'keep', 'host-b');
    await set('console.listen', 'password', 'host-b');
    const job = await provision('host-b');
    await untilWaiting(b);
    await a.writeFile(
      '/run/other.xml',
      guestXml({ ...GUEST, name: 'other' }).replaceAll(/<disk .*<\/disk>/g, ''),
    );
    await a.run([...VIRSH, 'create', '/run/other.xml']);
    const refused = await migrate(fleet, { vm: 'other', from: 'host-a', to: 'host-b', mode: ['tls'] });
    await assert.rejects(fleet.finished(refused), /restart goes first/);
    assert.equal(await vmState(a, 'other'), 'running');
    await a.run([...VIRSH, 'destroy', 'other']);
    await letGo(a);
    assert.equal(await migration, '');
    await fleet.finished(job);
  });

  it('4. goes on waiting after kill -9 of the agent, until the same time; a renewal joins and is served at once', async () => {
    const { migration } = await slowly(b, a);
    await set('console.listen', 'keep', 'host-b');
    const job = await provision('host-b');
    const wait = await untilWaiting(b);
    await b.run(['systemctl', 'kill', '--kill-whom=main', '--signal=KILL', 'virt-trust-agent.service']);
    const again = await until('see it wait again', PATIENCE, async () => waitOf(b).catch(() => undefined));
    assert.equal(again.until, wait.until);
    const before = await serialOf('host-b', 'libvirt');
    const old = await b.run(['cat', '/etc/pki/libvirt/servercert.pem']);
    const renewal = await renew('host-b', 'libvirt');
    await assert.rejects(
      fleet.finished(job),
      (error) =>
        isTrustError((error as Error).cause as Error, 'host.joined') || /host\.joined/.test(`${error}`),
    );
    await until('see the renewed certificate on disk', PATIENCE, async () =>
      (await b.run(['cat', '/etc/pki/libvirt/servercert.pem'])) === old ? undefined : true,
    );
    const joined = await untilWaiting(b);
    assert.equal(joined.until, wait.until);
    await assertUnderWay(migration);
    await letGo(b);
    assert.equal(await migration, '');
    await fleet.finished(renewal);
    assert.notEqual(await serialOf('host-b', 'libvirt'), before);
  });

  it('5. goes on in spite of a migration once the limit is over, and says which one it cut', async () => {
    await set('migration.reload_wait', '8s', 'host-a');
    const { migration } = await slowly(a, b);
    const daemon = await daemonOf(a);
    await set('console.listen', 'keep', 'host-a');
    await fleet.finished(await provision('host-a'));
    assert.notEqual(await daemonOf(a), daemon);
    assert.notEqual(await migration, '');
    const events = (await eventsOn(a)).filter(({ kind }) => kind === 'apply.migrations_cut');
    assert.match(events.at(-1)?.message ?? '', /guest \(outgoing\)/);
    assert.deepEqual([await runningVms(a), await runningVms(b)], [[GUEST.name], []]);
  });

  it('6. holds the removal of a host up until the migration is over, with everything in place meanwhile', async () => {
    await set('migration.reload_wait', null, 'host-a');
    await fleet.finished(await provision('host-a'));
    const { migration } = await slowly(a, b);
    const removal = fleet.remove('host-a');
    // Said where it is awaited.
    removal.catch(() => {});
    await untilWaiting(a);
    const there = await a.exec(['test', '-e', '/etc/pki/libvirt-migrate/server-cert.pem']);
    assert.equal(there.code, 0);
    await letGo(a);
    assert.equal(await migration, '');
    await removal;
    assert.equal((await a.exec(['test', '-e', '/var/lib/virt-trust/services'])).code, 1);
    await findIntact(b, GUEST);
  });
});
