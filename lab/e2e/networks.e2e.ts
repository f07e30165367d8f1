import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { getAuthority, listCertificates } from '@virt-trust/contract/manager/certificate-operations.ts';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { listInterfaces } from '@virt-trust/contract/manager/interface-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { STOLEN, stealClient } from '../src/stolen-client.ts';
import { until } from '../src/until.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { namesInFile, untilNames, untilSettled } from './served-names.ts';
import { type Place, servedAt } from './viewer.ts';
import { QEMU_STREAMS, whileWatchingNetworks } from './wire.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 120_000;
const HOSTS = ['host-a', 'host-b'];

describe('separate networks: certificates that are right on each, and traffic that stays on its own', {
  skip,
}, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-nets-${process.pid}`, hosts: HOSTS });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const set = (setting: string, value: string[] | null) =>
    fleet.client.call(putSetting, { params: { setting }, query: { cluster: 'default' }, body: { value } });
  const bothOn = (host: Host, network: 'management' | 'migration' | 'display') => [
    host.on(network).address,
    host.on(network).address6,
  ];
  const migrate = (vm: string, from: Host, to: Host) =>
    fleet.client
      .call(createMigrationJob, { body: { vm, from: from.name, to: to.name } })
      .then((job) => fleet.finished(job));

  /** Every segment between the two hosts, whatever address or port it has. */
  const betweenHosts = () => {
    const addresses = (host: Host) =>
      host.plan.interfaces.flatMap((card) => [card.address, card.address6]).map((one) => `host ${one}`);
    return `tcp and (${addresses(a).join(' or ')}) and (${addresses(b).join(' or ')})`;
  };

  /** Waits until each connection between the hosts is closed at both ends: its last segments come late. */
  async function untilQuiet(): Promise<void> {
    for (const [here, there] of [
      [a, b],
      [b, a],
    ] as const) {
      const others = there.plan.interfaces.flatMap(({ address, address6 }) => [
        `${address}:`,
        `[::ffff:${address}]:`,
        `[${address6}]:`,
      ]);
      await until(`see ${here.name} without connections to ${there.name}`, PATIENCE, async () => {
        const said = await here.run(['ss', '-Htn', 'state', 'connected', 'exclude', 'time-wait']);
        return others.some((address) => said.includes(address)) ? undefined : true;
      });
    }
  }

  /** Migrates and asserts that nothing of it was seen but on the migration network, there in TLS alone. */
  async function migrateSeen(vm: string, from: Host, to: Host, address: string): Promise<Job> {
    await untilQuiet();
    const { result: job, networks } = await whileWatchingNetworks(fleet.lab, betweenHosts(), () =>
      migrate(vm, from, to),
    );
    const { management, migration, display } = networks;
    assert.deepEqual([management.segments, display.segments], [0, 0], 'traffic left the migration network');
    // libvirt's RPC and QEMU's stream.
    assert.ok(migration.tls >= 2 && migration.plain === 0, JSON.stringify(migration));
    assert.deepEqual(await runningVms(to), [vm]);
    assert.equal(job.migration?.proof?.connection?.to, address);
    assert.equal(job.migration?.proof?.connection?.interface, 'eth1');
    assert.match(job.result ?? '', new RegExp(`\\(eth1\\) to ${address}`));
    return job;
  }

  async function consoleCa(): Promise<string> {
    return (await fleet.client.call(getAuthority, { params: { name: 'console' } })).bundle;
  }

  /** Where the displays of the VM are, by each address of the display network. */
  async function displays(host: Host, ca: string): Promise<Place[]> {
    const xml = await host.run(['virsh', '--connect', 'qemu:///system', 'dumpxml', 'guest']);
    const vnc = Number(/type='vnc' port='(\d+)'/.exec(xml)?.[1]);
    const spice = Number(/type='spice'[^>]* tlsPort='(\d+)'/.exec(xml)?.[1]);
    return bothOn(host, 'display').flatMap((address) => [
      { protocol: 'vencrypt', address, port: vnc, ca } as const,
      { protocol: 'tls', address, port: spice, ca } as const,
    ]);
  }

  it('1. gives roles by settings of the cluster, one by name and one by subnet, before any host is there', async () => {
    await set('role.migration', ['eth1']);
    await set('role.display', fleet.lab.rangesOf('display'));
    await Promise.all(HOSTS.map((name) => fleet.add(name)));
    const { items } = await fleet.client.call(listInterfaces, { params: { name: 'host-a' } });
    const roles = new Map(items.map((one) => [one.name, one.roles]));
    assert.deepEqual(roles.get('eth0'), [{ role: 'management', from: 'host add' }]);
    assert.deepEqual(roles.get('eth1'), [
      { role: 'migration', from: 'setting role.migration (cluster default)' },
    ]);
    assert.deepEqual(roles.get('eth2'), [
      { role: 'display', from: 'setting role.display (cluster default)' },
    ]);
    assert.deepEqual(roles.get('lo'), []);
    assert.equal(items.find((one) => one.name === 'eth1')?.services.includes('migration'), true);
    assert.ok(items.find((one) => one.name === 'lo')?.leftOut);
  });

  it('2. certifies for each service exactly the names and addresses of its endpoints', async () => {
    for (const host of [a, b]) {
      const management = [host.name, ...bothOn(host, 'management')];
      const expected = {
        libvirt: [...management, ...bothOn(host, 'migration')],
        migration: bothOn(host, 'migration'),
        vnc: bothOn(host, 'display'),
        spice: bothOn(host, 'display'),
      };
      const files = {
        libvirt: '/etc/pki/libvirt/servercert.pem',
        migration: '/etc/pki/libvirt-migrate/server-cert.pem',
        vnc: '/etc/pki/libvirt-vnc/server-cert.pem',
        spice: '/etc/pki/libvirt-spice/server-cert.pem',
      };
      const { endpoints } = await fleet.show(host.name);
      for (const service of ['libvirt', 'migration', 'vnc', 'spice'] as const) {
        const names = [...expected[service]].sort();
        assert.deepEqual((await untilSettled(fleet, host.name, service)).names, names, service);
        assert.deepEqual(await namesInFile(host, files[service]), names, service);
        const own = endpoints.filter((one) => one.service === service);
        assert.deepEqual(own.flatMap((one) => [...one.names.dns, ...one.names.addresses]).sort(), names);
      }
    }
  });

  it('3. serves them there: OpenSSL and GnuTLS verify each address and name without an override', async () => {
    const control = (await fleet.client.call(getAuthority, { params: { name: 'control' } })).bundle;
    const ca = await consoleCa();
    await startVm(a, { name: 'guest', vncListen: '::', spiceListen: '::' });
    for (const address of [...bothOn(a, 'management'), ...bothOn(a, 'migration')]) {
      await servedAt({ protocol: 'tls', address, port: 16514, ca: control });
      await gnutlsVerifies(address, 16514, '/etc/pki/CA/cacert.pem');
    }
    await servedAt({ protocol: 'tls', address: a.address, port: 16514, name: 'host-a', ca: control });
    await b.writeFile('/root/console-ca.pem', ca);
    const places = await displays(a, ca);
    for (const place of places) {
      const { names } = await servedAt(place);
      assert.deepEqual(names, bothOn(a, 'display').sort());
      if (place.protocol === 'tls') await gnutlsVerifies(place.address, place.port, '/root/console-ca.pem');
    }
    // What is not on the display network is no address of its display.
    for (const place of places)
      for (const name of [a.address, a.address6, a.on('migration').address, b.on('display').address])
        await assert.rejects(servedAt({ ...place, name }), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  });

  async function gnutlsVerifies(address: string, port: number, ca: string): Promise<void> {
    const argv = [
      'gnutls-cli',
      '--x509cafile',
      ca,
      '--verify-hostname',
      address,
      '--port',
      `${port}`,
      address,
    ];
    const { stdout } = await b.exec(argv, { input: '', timeout: 60_000 });
    assert.match(stdout, /Status: The certificate is trusted/, `${address} ${port}`);
  }

  it('4. migrates over the migration network alone, in TLS, with the console there after', async () => {
    const job = await migrateSeen('guest', a, b, b.on('migration').address);
    const step = job.steps.find(({ name }) => name === 'Choose the network');
    assert.match(step?.detail ?? '', new RegExp(`^${b.on('migration').address} on eth1 of host-b$`));
    assert.equal(job.migration?.proof?.connection?.from, a.on('migration').address);
    for (const place of await displays(b, await consoleCa())) await servedAt(place);
    await migrateSeen('guest', b, a, a.on('migration').address);
  });

  it("5. sends somebody else's plain virsh migrate --tls over the migration network too", async () => {
    await stealClient(a, () => migrateSeen('guest', a, b, b.on('migration').address));
    await migrateSeen('guest', b, a, a.on('migration').address);
    await untilQuiet();
    const uri = `qemu+tls://host-b/system?pkipath=${STOLEN}`;
    const argv = ['virsh', '--connect', 'qemu:///system', 'migrate', '--live', '--tls', 'guest', uri];
    const { result, networks } = await whileWatchingNetworks(
      fleet.lab,
      `${QEMU_STREAMS} and ${betweenHosts()}`,
      () => a.exec(argv),
    );
    const { code, stderr } = result;
    const log = await a.exec(['tail', '-n', '20', '/var/log/libvirt/qemu/guest.log']);
    assert.equal(code, 0, `${stderr}\n${log.stdout}`);
    const { management, migration, display } = networks;
    assert.deepEqual([management.segments, display.segments], [0, 0]);
    assert.ok(migration.tls > 0 && migration.plain === 0, JSON.stringify(migration));
    assert.deepEqual(await runningVms(b), ['guest']);
    await migrateSeen('guest', b, a, a.on('migration').address);
  });

  it('6. goes over IPv6 where the migration network has nothing else, there and back', async () => {
    const vnc = await Promise.all(HOSTS.map((name) => untilSettled(fleet, name, 'vnc')));
    for (const host of [a, b]) await host.run(['ip', '-4', 'addr', 'flush', 'dev', 'eth1']);
    for (const host of [a, b]) {
      const six = host.on('migration').address6;
      await untilNames(fleet, host.name, 'migration', [six]);
      await untilNames(fleet, host.name, 'libvirt', [host.name, ...bothOn(host, 'management'), six]);
    }
    await migrateSeen('guest', a, b, b.on('migration').address6);
    await migrateSeen('guest', b, a, a.on('migration').address6);
    // Displays had no part in it.
    assert.deepEqual(await Promise.all(HOSTS.map((name) => untilSettled(fleet, name, 'vnc'))), vnc);
  });

  it('7. refuses to migrate where the hosts have no address family in common, naming both', async () => {
    await b.run(['ip', 'addr', 'add', `${b.on('migration').address}/24`, 'dev', 'eth1']);
    await b.run(['ip', 'addr', 'del', `${b.on('migration').address6}/64`, 'dev', 'eth1']);
    await untilNames(fleet, 'host-b', 'migration', [b.on('migration').address]);
    await assert.rejects(migrate('guest', a, b), {
      code: 'migration.no_common_family',
      message: /host-a has .*host-b has /,
    });
    assert.deepEqual(await runningVms(a), ['guest']);
    await a.run(['ip', 'addr', 'add', `${a.on('migration').address}/24`, 'dev', 'eth1']);
    await b.run(['ip', 'addr', 'add', `${b.on('migration').address6}/64`, 'dev', 'eth1', 'nodad']);
    for (const host of [a, b]) await untilNames(fleet, host.name, 'migration', bothOn(host, 'migration'));
  });

  it('8. changes no certificate where a cable of the display network is pulled', async () => {
    const serials = () =>
      fleet.client
        .call(listCertificates, { query: { host: 'host-a' } })
        .then(({ items }) => items.map(({ serialNumber }) => serialNumber));
    const count = await serials();
    const linkIs = (up: boolean) =>
      until(`see the link of eth2 ${up ? 'up' : 'down'}`, PATIENCE, async () => {
        const { observed } = await fleet.show('host-a');
        return observed?.network?.interfaces.find(({ name }) => name === 'eth2')?.up === up || undefined;
      });
    await a.cutCable('display');
    await linkIs(false);
    await fleet.finished(await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: {} }));
    await a.plugCable('display');
    await linkIs(true);
    await fleet.finished(await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: {} }));
    assert.deepEqual(await serials(), count);
    for (const place of await displays(a, await consoleCa())) await servedAt(place);
  });

  it('9. brings everything back to management where the roles are taken back', async () => {
    await set('role.migration', null);
    await set('role.display', null);
    for (const host of [a, b]) {
      const management = [host.name, ...bothOn(host, 'management')];
      for (const service of ['libvirt', 'migration', 'vnc', 'spice'] as const)
        await untilNames(fleet, host.name, service, management);
    }
    await untilQuiet();
    const { networks } = await whileWatchingNetworks(fleet.lab, betweenHosts(), () => migrate('guest', a, b));
    const { management, migration, display } = networks;
    assert.ok(management.tls >= 2 && management.plain === 0, JSON.stringify(management));
    assert.deepEqual([migration.segments, display.segments], [0, 0]);
    const ca = await consoleCa();
    for (const { name: _, ...place } of await displays(b, ca))
      for (const address of bothOn(b, 'management')) await servedAt({ ...place, address });
  });
});
