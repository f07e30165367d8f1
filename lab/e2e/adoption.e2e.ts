import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { qemuProcesses, runningVms, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { clientReaches, migrateBothWays } from './old-ways.ts';
import { sightOf } from './sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

async function gateState(fleet: Fleet, host: string, gate: Gate): Promise<string | undefined> {
  return (await fleet.show(host)).gates.find((one) => one.gate === gate)?.state;
}

function identities(fleet: Fleet, host: string) {
  return fleet
    .show(host)
    .then((detail) =>
      Object.fromEntries((detail.observed?.credentials ?? []).map((one) => [one.service, one.identity])),
    );
}

/** Connects to a VM's VNC server as a viewer that trusts the given CA alone, verifying the address. */
async function viewerReaches(host: Host, vm: string, trust: string): Promise<boolean> {
  const display = (await host.run(['virsh', 'vncdisplay', vm])).trim();
  const port = 5900 + Number(display.slice(display.lastIndexOf(':') + 1));
  const probe = probeVnc({
    host: host.address,
    port,
    serverName: host.address,
    trust,
    clock: systemClock,
    timeoutMs: 60_000,
  });
  return probe.then(
    () => true,
    () => false,
  );
}

/** libvirtd lets in whom the list names alone; virt-trust's own clients must get in beside them. */
async function allowOldClientsOnly(host: Host): Promise<void> {
  const line = 'tls_allowed_dn_list = [ "*Old Administrator*" ]';
  await host.run([
    'sh',
    '-c',
    'printf "\\n%s\\n" "$1" >>/etc/libvirt/libvirtd.conf && systemctl restart libvirtd.service',
    'sh',
    line,
  ]);
}

describe('adoption: a cluster that uses another CA', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let oldCa: string;
  const asFound = new Map<string, string>();

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-old-ca-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await setUpAsFound([a, b], { libvirt: 'tls', qemuTls: true });
    for (const host of [a, b]) await allowOldClientsOnly(host);
    oldCa = await a.readFile('/etc/pki/CA/cacert.pem');
    for (const host of [a, b]) asFound.set(host.name, await sightOf(host));
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const migrate = async (vm: string, from: string, to: string) =>
    fleet.finished(await fleet.client.call(createMigrationJob, { body: { vm, from, to } }));

  it('1. works before: migrations both ways, clients, VNC under the old CA', async () => {
    await startVm(a, { name: 'elder', vncListen: '0.0.0.0' });
    await startVm(b, { name: 'other', vncListen: '0.0.0.0' });
    await startVm(a, { name: 'rooted', vncListen: '0.0.0.0' });
    await migrateBothWays('elder', a, b, 'tls');
    assert.ok(await clientReaches(b, a, 'tls'));
    assert.ok(await viewerReaches(a, 'elder', oldCa));
  });

  it('2. takes one host under management and breaks nothing, in either direction', async () => {
    const before = await qemuProcesses(a);
    await fleet.add('host-a');
    assert.deepEqual(await qemuProcesses(a), before);
    assert.deepEqual(await identities(fleet, 'host-a'), {
      libvirt: 'found',
      migration: 'found',
      vnc: 'found',
      spice: 'found',
      nbd: 'found',
      backup: 'found',
    });
    assert.equal(await gateState(fleet, 'host-a', 'serve'), 'waiting');
    assert.equal(await gateState(fleet, 'host-a', 'retire-found-ca'), 'waiting');
    assert.match(await a.readFile('/etc/libvirt/qemu.conf'), /# set by the old administrator/);
    assert.match(
      await a.readFile('/etc/libvirt/libvirtd.conf'),
      /tls_allowed_dn_list = \[ *"\*Old Administrator\*"/,
    );
    await migrateBothWays('elder', a, b, 'tls');
    await migrateBothWays('other', b, a, 'tls');
    assert.ok(await clientReaches(b, a, 'tls'));
    assert.ok(await clientReaches(a, b, 'tls'));
    assert.ok(await viewerReaches(a, 'elder', oldCa));
    await startVm(a, { name: 'young', vncListen: '0.0.0.0' });
    assert.ok(await viewerReaches(a, 'young', oldCa));
    await migrateBothWays('young', a, b, 'tls');
  });

  it('3. does not let the found CA go while a peer depends on it, and says which', async () => {
    await assert.rejects(fleet.passGate('host-a', 'retire-found-ca'), /gate\.blocked.*still serves/s);
  });

  it('4. serves our certificates on both hosts, one after the other, while old clients go on', async () => {
    await fleet.add('host-b');
    await fleet.passGate('host-a', 'serve');
    assert.deepEqual(await identities(fleet, 'host-a'), {
      libvirt: 'ours',
      migration: 'ours',
      vnc: 'ours',
      spice: 'ours',
      nbd: 'ours',
      backup: 'ours',
    });
    // Mixed: a serves ours, b what was found; both trust both.
    await migrateBothWays('young', a, b, 'tls');
    await migrateBothWays('other', b, a, 'tls');
    await fleet.passGate('host-b', 'serve');
    await migrateBothWays('young', a, b, 'tls');
    assert.ok(await clientReaches(b, a, 'tls'), 'a client with a certificate of the old CA is let in still');
  });

  it('5. names the VM that still serves the old certificate, and lets the old CA go once it was moved', async () => {
    await until('see rooted named', 120_000, async () => {
      const { observed } = await fleet.show('host-a');
      return observed?.pending.find(({ what }) => what.includes('rooted'));
    });
    await assert.rejects(fleet.passGate('host-a', 'retire-found-ca'), /gate\.blocked.*rooted/s);
    await migrate('rooted', 'host-a', 'host-b');
    await migrate('rooted', 'host-b', 'host-a');
    for (const name of ['host-a', 'host-b']) await fleet.passGate(name, 'retire-found-ca');
    assert.ok(!(await clientReaches(b, a, 'tls')), 'a certificate of the old CA is let in no longer');
    await migrate('elder', 'host-a', 'host-b');
    await migrate('elder', 'host-b', 'host-a');
  });

  it('6. gives everything back, the VMs running on, and the old ways work again', async () => {
    const before = await qemuProcesses(a);
    await fleet.remove('host-a');
    await fleet.remove('host-b');
    assert.deepEqual(await qemuProcesses(a), before);
    for (const host of [a, b]) assert.equal(await sightOf(host), asFound.get(host.name));
    assert.ok(await clientReaches(b, a, 'tls'));
    assert.deepEqual(new Set(await runningVms(a)), new Set(['elder', 'rooted', 'young']));
    await migrateBothWays('young', a, b, 'tls');
    await migrateBothWays('other', b, a, 'tls');
    await migrateBothWays('elder', a, b, 'tls');
  });
});

describe('adoption: a cluster on plain TCP', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  const asFound = new Map<string, string>();

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-tcp-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await setUpAsFound([a, b], { libvirt: 'tcp', qemuTls: false });
    for (const host of [a, b]) asFound.set(host.name, await sightOf(host));
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. adds TLS beside plain TCP on one host, and breaks no plain migration', async () => {
    await startVm(a, { name: 'elder', vncListen: '0.0.0.0' });
    const before = await qemuProcesses(a);
    await fleet.add('host-a');
    assert.deepEqual(await qemuProcesses(a), before);
    assert.equal(await gateState(fleet, 'host-a', 'plain-tcp-off'), 'waiting');
    assert.equal(await gateState(fleet, 'host-a', 'vnc-tls'), 'waiting');
    await migrateBothWays('elder', a, b, 'tcp');
    assert.ok(await clientReaches(b, a, 'tcp'));
  });

  it('2. keeps plain TCP until it is asked to take it away, and every host was seen with TLS', async () => {
    await assert.rejects(fleet.passGate('host-a', 'plain-tcp-off'), /gate\.blocked.*the only managed one/s);
    await fleet.add('host-b');
    await migrateBothWays('elder', a, b, 'tcp');
    for (const name of ['host-a', 'host-b']) await fleet.passGate(name, 'plain-tcp-off');
    assert.ok(!(await clientReaches(b, a, 'tcp')));
    await fleet.finished(
      await fleet.client.call(createMigrationJob, { body: { vm: 'elder', from: 'host-a', to: 'host-b' } }),
    );
    for (const name of ['host-a', 'host-b']) await fleet.passGate(name, 'vnc-tls');
  });

  it('3. has libvirt demand TLS of every native migration once no other mode is allowed', async () => {
    for (const host of [a, b])
      assert.doesNotMatch(await host.readFile('/etc/libvirt/qemu.conf'), /^migrate_tls_force/m);
    await fleet.client.call(putSetting, {
      params: { setting: 'migration.mode' },
      query: {},
      body: { value: ['tls'] },
    });
    for (const { name } of [a, b])
      await fleet.finished(await fleet.client.call(provisionHost, { params: { name }, body: {} }));
    for (const host of [a, b])
      assert.match(await host.readFile('/etc/libvirt/qemu.conf'), /^migrate_tls_force *= *1$/m);
  });

  it('4. gives plain TCP back on removal', async () => {
    await fleet.remove('host-a');
    await fleet.remove('host-b');
    for (const host of [a, b]) assert.equal(await sightOf(host), asFound.get(host.name));
    await migrateBothWays('elder', b, a, 'tcp');
  });
});
