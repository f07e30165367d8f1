import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { listAudit } from '@virt-trust/contract/manager/audit-operations.ts';
import { listHosts, provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import { listSettings, putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import type { Setting, SettingValue } from '@virt-trust/contract/model/setting.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { qemuProcesses, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { clientReaches } from './old-ways.ts';
import { RESTART_LIBVIRTD, START_TLS_SOCKET } from './restart-libvirtd.ts';
import { sightOf } from './sight.ts';

const PATIENCE = 180_000;
const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const TLS = 'kvm.libvirtd.tls.enabled';
const SOCKETS = 'libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tls.socket';
/** What libvirt and QEMU read of ours: nothing of it is left while TLS is off. */
const PKI = 'find /etc/pki -lname "*virt-trust*"; ls /var/lib/virt-trust/services 2>/dev/null; true';

interface Scope {
  cluster?: string;
  host?: string;
}

describe('kvm.libvirtd.tls.enabled: TLS off and on by a setting', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let c: Host;
  const asFound = new Map<string, string>();

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-switch-${process.pid}`, hosts: ['host-a', 'host-b', 'host-c'] });
    [a, b, c] = [fleet.host('host-a'), fleet.host('host-b'), fleet.host('host-c')];
    // One with a configuration of its own that says something of TLS, one that was never touched.
    await setUpAsFound([a], { libvirt: 'tcp', qemuTls: false });
    for (const host of [a, b, c]) asFound.set(host.name, await sightOf(host));
    await fleet.add('host-a', { cluster: 'rack1' });
    await fleet.add('host-b', { cluster: 'rack1' });
    await startVm(b, { name: 'guest' });
  });
  after(() => fleet?.[Symbol.asyncDispose]());
  // What a step that failed left stopped is nothing to the next.
  afterEach(async () => {
    await c.exec(['systemctl', 'start', 'virt-trust-agent.service']);
    const listens = 'systemctl is-active --quiet libvirtd.socket';
    await b.exec(['sh', '-c', `${listens} || systemctl start ${SOCKETS}`]);
  });

  /** Sets it and waits for the hosts that follow. */
  const put = async (value: SettingValue | null, scope: Scope, setting = TLS) => {
    const change = await fleet.client.call(putSetting, {
      params: { setting },
      query: scope,
      body: { value },
    });
    for (const id of change.jobs) await fleet.finished(await fleet.client.call(getJob, { params: { id } }));
    return change;
  };
  const explained = async (scope: Scope): Promise<Setting> => {
    const { items } = await fleet.client.call(listSettings, { query: scope });
    const found = items.find(({ name }) => name === TLS);
    assert.ok(found);
    return found;
  };
  const chainOf = async (scope: Scope) =>
    (await explained(scope)).chain.map((one) => `${one.scope} ${one.target} ${one.value} ${one.wins}`);
  const securityOf = async (name: string) => (await fleet.show(name)).security;
  const untilShown = (name: string, sign: (host: HostDetail) => boolean) =>
    until(`see ${name} as it should be`, PATIENCE, async () => sign(await fleet.show(name)) || undefined);
  const fleetSecurity = async () => {
    const { items } = await fleet.client.call(listHosts, { query: {} });
    return Object.fromEntries(items.map(({ name, security }) => [name, security.modes.includes('tls')]));
  };

  it('1. shows what hosts can do, as they report it: sockets, files, versions', async () => {
    assert.deepEqual(await fleetSecurity(), { 'host-a': true, 'host-b': true });
    const { security, observed } = await fleet.show('host-a');
    assert.deepEqual(security.modes, ['tls', 'pinned', 'plain'], 'plain TCP was found there');
    assert.deepEqual(security.missing, []);
    const reported = observed?.capabilities;
    assert.equal(reported?.libvirtTls?.port, 16514);
    assert.equal(reported?.libvirtTcp?.authentication, 'none');
    assert.match(reported?.libvirtVersion ?? '', /^\d+\.\d+\.\d+$/);
    assert.match(reported?.qemuVersion ?? '', /^\d+\.\d+\.\d+$/);
    assert.deepEqual((await securityOf('host-b')).modes, ['tls', 'pinned']);
    assert.deepEqual(await chainOf({ host: 'host-a' }), [
      'host host-a null false',
      'cluster rack1 null false',
      'global  null false',
      'default  true true',
    ]);
  });

  it('1a. sees what somebody changes on the host, and what a host can do that is only observed', async () => {
    const force = (edit: string) => b.run(['sh', '-c', `${edit} && ${RESTART_LIBVIRTD}`]).then(() => {});
    const modes = async (wanted: string) => {
      await until(`hear that host-b can do ${wanted}`, PATIENCE, async () =>
        (await securityOf('host-b')).modes.join() === wanted ? true : undefined,
      );
    };
    await force("printf 'migrate_tls_force = 1\\n' >>/etc/libvirt/qemu.conf");
    await modes('tls');
    await force("sed -i --follow-symlinks '/^migrate_tls_force/d' /etc/libvirt/qemu.conf");
    await modes('tls,pinned');
    await b.run(['systemctl', 'stop', 'libvirtd-tls.socket', 'libvirtd.service']);
    await modes('pinned');
    await b.run(['sh', '-c', START_TLS_SOCKET]);
    await modes('tls,pinned');
    await fleet.add('host-c', { cluster: 'rack1', observe: true });
    await until(
      'hear what host-c can do',
      PATIENCE,
      async () => (await securityOf('host-c')).reported || undefined,
    );
    const seen = await securityOf('host-c');
    assert.deepEqual(seen.modes, []);
    assert.equal(seen.missing[0], 'its agent only looks');
    assert.match(seen.mend, /^virt-trust host add host-c --ssh /);
    assert.equal(await sightOf(c), asFound.get('host-c'));
  });

  it('2. off for the cluster: each host has its own back byte by byte, the VM runs on, no certificate is revoked', async () => {
    const running = await qemuProcesses(b);
    const { jobs, warnings } = await put(false, { cluster: 'rack1' });
    assert.equal(jobs.length, 2);
    assert.deepEqual(warnings, []);
    for (const host of [a, b]) {
      assert.equal(await sightOf(host), asFound.get(host.name));
      assert.equal(await host.run(['sh', '-c', PKI]), '');
    }
    assert.deepEqual(await qemuProcesses(b), running);
    assert.ok(await clientReaches(b, a, 'tcp'), 'plain TCP, as it was found');
    for (const name of ['host-a', 'host-b']) {
      const { state, channel, observed, security, alarms } = await fleet.show(name);
      assert.deepEqual([state, channel, observed?.credentials], ['unsecured', 'up', []]);
      assert.match(security.missing[0] ?? '', /TLS is switched off: .* off for cluster rack1/);
      assert.equal(security.mend, `virt-trust setting set ${TLS} on --cluster rack1`);
      assert.deepEqual(security.tls, { enabled: false, from: 'cluster' });
      assert.deepEqual([alarms.critical, alarms.warning], [0, 0]);
    }
    assert.deepEqual(await fleetSecurity(), { 'host-a': false, 'host-b': false, 'host-c': false });
    assert.deepEqual(await chainOf({ host: 'host-a' }), [
      'host host-a null false',
      'cluster rack1 false true',
      'global  null false',
      'default  true false',
    ]);
    const { items } = await fleet.client.call(listAudit, { query: { limit: 500 } });
    const off = items.filter(({ action }) => action === 'host.tls_off');
    assert.deepEqual(off.map(({ subject }) => subject).sort(), ['host-a', 'host-b']);
    assert.match(off[0]?.detail ?? '', /cluster.*keys destroyed on the host and so not revoked: libvirt /);
    assert.equal(items.filter(({ action }) => action.startsWith('certificate.revoke')).length, 0);
  });

  it('3. a host that is taken under management while it is off is, and left as it was', async () => {
    await fleet.add('host-c', { cluster: 'rack1' });
    const { state, channel, observed } = await fleet.show('host-c');
    assert.deepEqual([state, channel, observed?.credentials], ['unsecured', 'up', []]);
    assert.equal(await sightOf(c), asFound.get('host-c'));
  });

  it('4. on for one host: the fleet is mixed, and shown so with what the others lack', async () => {
    const { jobs } = await put(true, { host: 'host-b' });
    assert.equal(jobs.length, 1);
    assert.deepEqual(await fleetSecurity(), { 'host-a': false, 'host-b': true, 'host-c': false });
    assert.equal((await explained({ host: 'host-b' })).from, 'host');
    assert.equal((await explained({ host: 'host-a' })).from, 'cluster');
    assert.equal((await fleet.show('host-b')).state, 'secured');
  });

  it('5. a host that was away is switched when it comes back', async () => {
    await c.run(['systemctl', 'stop', 'virt-trust-agent']);
    await untilShown('host-c', ({ channel }) => channel === 'down');
    const { jobs, warnings } = await put(null, { cluster: 'rack1' });
    assert.equal(jobs.length, 1);
    assert.match(warnings[0] ?? '', /it reaches host host-c when its channel is up again/);
    await c.run(['systemctl', 'start', 'virt-trust-agent']);
    await untilShown('host-c', ({ state }) => state === 'secured');
  });

  it('6. on again: provisioned and proven, as before it was off', async () => {
    assert.deepEqual(await fleetSecurity(), { 'host-a': true, 'host-b': true, 'host-c': true });
    for (const name of ['host-a', 'host-b', 'host-c']) {
      const { state, observed, security } = await fleet.show(name);
      assert.equal(state, 'secured');
      assert.deepEqual(security.missing, []);
      const libvirt = observed?.credentials.find(({ service }) => service === 'libvirt');
      assert.ok(libvirt?.proofs.some(({ by }) => by === 'manager'));
    }
    assert.equal((await explained({ cluster: 'rack1' })).from, 'default');
  });

  it('6a. other settings reach hosts in the same way: migrate_tls_force follows migration.mode, the VM runs on', async () => {
    const running = await qemuProcesses(b);
    const inFile = async (host: Host) =>
      (await host.run(['sh', '-c', "grep -E '^migrate_tls_force' /etc/libvirt/qemu.conf || true"])).trim();
    const forced = async (name: string) => {
      const { observed, settingsDue } = await fleet.show(name);
      assert.deepEqual(settingsDue, []);
      return [observed?.settings?.migrateTls, observed?.capabilities?.migrateTlsForce];
    };
    const ofHosts = async (jobs: readonly string[]) => {
      const all = await Promise.all(
        jobs.map((id) =>
          fleet.client.call(getJob, { params: { id } }, { signal: AbortSignal.timeout(60_000) }),
        ),
      );
      return all.map(({ kind, subject }) => `${kind} ${subject}`).sort();
    };
    assert.deepEqual(await Promise.all([b, c].map(inFile)), ['', '']);
    await c.run(['systemctl', 'stop', 'virt-trust-agent']);
    await untilShown('host-c', ({ channel }) => channel === 'down');
    const change = await put(['tls'], { cluster: 'rack1' }, 'migration.mode');
    // Plain TCP that was found on host-a is in use until its gate is passed, so nothing is forced there.
    assert.deepEqual(await ofHosts(change.jobs), ['host-settings host-b']);
    assert.match(change.warnings[0] ?? '', /it reaches host host-c when its channel is up again/);
    assert.equal(await inFile(b), 'migrate_tls_force = 1');
    assert.deepEqual(await forced('host-b'), ['force', true]);
    assert.deepEqual((await securityOf('host-b')).modes, ['tls']);
    assert.match((await fleet.show('host-c')).settingsDue.join(), /migrate_tls_force on, there still/);
    await c.run(['systemctl', 'start', 'virt-trust-agent']);
    await untilShown('host-c', ({ settingsDue }) => settingsDue.length === 0);
    assert.equal(await inFile(c), 'migrate_tls_force = 1');
    assert.equal(await inFile(a), '');

    const own = await put(['tls', 'pinned'], { host: 'host-b' }, 'migration.mode');
    assert.deepEqual(await ofHosts(own.jobs), ['host-settings host-b']);
    assert.deepEqual([await inFile(b), await inFile(c)], ['', 'migrate_tls_force = 1']);
    assert.deepEqual(await forced('host-b'), ['allow', false]);
    assert.equal((await put(null, { cluster: 'rack1' }, 'migration.mode')).jobs.length, 1);
    assert.equal(
      (await put(null, { host: 'host-b' }, 'migration.mode')).jobs.length,
      0,
      'it has that already',
    );
    assert.deepEqual(await Promise.all([b, c].map(inFile)), ['', '']);
    assert.deepEqual(await forced('host-c'), ['allow', false]);
    assert.deepEqual(await qemuProcesses(b), running);
  });

  it('6b. where that fails it is tried again by itself, and succeeds once what was in the way is gone', async () => {
    const running = await qemuProcesses(b);
    await b.run(['sh', '-c', `systemctl stop ${SOCKETS} libvirtd.service`]);
    const change = await fleet.client.call(putSetting, {
      params: { setting: 'migration.mode' },
      query: { host: 'host-b' },
      body: { value: ['tls'] },
    });
    const [id] = change.jobs;
    assert.ok(id !== undefined && change.jobs.length === 1);
    const failed = await until('see the job over', PATIENCE, async () => {
      const job = await fleet.client.call(getJob, { params: { id } });
      return job.state === 'failed' ? job : undefined;
    });
    assert.match(failed.error?.hint ?? '', /tried again by itself at \d{4}-/);
    const { settingsDue, settingsRetry }: HostDetail = await fleet.show('host-b');
    assert.match(settingsDue.join(), /migrate_tls_force on, there still/);
    assert.ok((settingsRetry?.failures ?? 0) >= 1);
    assert.match(settingsRetry?.reason ?? '', /libvirt/);
    await b.run(['sh', '-c', `systemctl start ${SOCKETS} && systemctl start libvirtd.service`]);
    // The pause before it is tried grows with each failure, while libvirt is stopped.
    const done = await until('see it brought there', 2 * PATIENCE, async () => {
      const host = await fleet.show('host-b');
      // The job forgets its failures once it is over, after the host has told.
      const { settingsDue: due, settingsRetry: retry, state } = host;
      return due.length === 0 && retry === null && state === 'secured' ? host : undefined;
    });
    assert.equal(done.observed?.settings?.migrateTls, 'force');
    assert.equal((await put(null, { host: 'host-b' }, 'migration.mode')).jobs.length, 1);
    assert.deepEqual(await qemuProcesses(b), running);
  });

  it('7. host provision --reconnect makes a new session and has every endpoint proven again', async () => {
    const job = await fleet.finished(
      await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: { reconnect: true } }),
    );
    const detail = (name: string) => job.steps.find((step) => step.name === name)?.detail ?? '';
    assert.match(detail('Re-establish the channel'), /a new session with .*TLS 1\.3/);
    const proven = detail('Prove every endpoint again');
    assert.match(proven, /libvirt at .*16514: as-desired/);
    assert.match(proven, /migration at .*as-desired/);
    assert.match(proven, /libvirt from the manager: as-desired/);
    assert.match(detail('Plan the endpoints'), /from provider internal/);
    await assert.rejects(
      fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: { provider: 'acme' } }),
      { code: 'provider.unknown', hint: 'there is: internal' },
    );
  });

  it('8. gives everything back at removal, all the same', async () => {
    for (const name of ['host-a', 'host-b', 'host-c']) await fleet.remove(name);
    for (const host of [a, b, c]) assert.equal(await sightOf(host), asFound.get(host.name));
  });
});
