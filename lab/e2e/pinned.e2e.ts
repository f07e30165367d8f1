import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { putSetting } from '@virt-trust/contract/manager/operations.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import { canBootLab } from '../src/capability.ts';
import { findIntact, type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { Fleet } from './fleet.ts';
import { migrate, vmState } from './migration-sight.ts';
import { leftOf } from './pinned-traces.ts';
import { watchWire } from './wire.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const GUEST: Guest = { name: 'guest', memoryMiB: 64, dirtyMiBPerSecond: 4 };
const DISKED: Guest = {
  name: 'disked',
  memoryMiB: 32,
  dirtyMiBPerSecond: 2,
  disk: { format: 'raw', sizeMiB: 32 },
};
/** The peer door and the relays. */
const BETWEEN_AGENTS = 'tcp and (port 16516 or portrange 16520-16583)';
/** Everything of libvirt's and QEMU's own: RPC with and without TLS, streams, disks. */
const LIBVIRT_AND_QEMU = 'tcp and (port 16509 or port 16514 or portrange 49152-49215)';

describe('mode pinned: migrations between two hosts without libvirt PKI', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-pinned-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const pinned = (vm: string, from: string, to: string, wish: MigrationWish = {}): MigrateVm => ({
    vm,
    from,
    to,
    mode: ['pinned'],
    ...wish,
  });
  const migrated = async (wanted: MigrateVm) => fleet.finished(await migrate(fleet, wanted));

  it('1. adds two hosts with libvirt TLS off: no certificate of libvirt is on either', async () => {
    await fleet.client.call(putSetting, {
      params: { setting: 'kvm.libvirtd.tls.enabled' },
      query: {},
      body: { value: false },
    });
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    for (const host of [a, b]) {
      const found = await host.exec(['sh', '-c', 'find /etc/pki -name "*.pem"; ss -Hltn "sport = :16514"']);
      assert.equal(found.stdout, '');
    }
    await Promise.all([startGuest(a, GUEST), receiveGuest(b, GUEST)]);
  });

  it('2. migrates a running VM there and back; the wire shows TLS between the agents and nothing else', async () => {
    const [agents, others] = await Promise.all([
      watchWire(fleet.lab, BETWEEN_AGENTS),
      watchWire(fleet.lab, LIBVIRT_AND_QEMU),
    ]);
    const job = await migrated(pinned('guest', 'host-a', 'host-b'));
    assert.equal(await vmState(b, 'guest'), 'running');
    assert.equal(await vmState(a, 'guest'), '');
    await findIntact(b, GUEST);
    await migrated(pinned('guest', 'host-b', 'host-a'));
    await findIntact(a, GUEST);
    const [seen, else_] = [await agents.stop(), await others.stop()];
    assert.ok(seen.connections >= 6, JSON.stringify(seen));
    assert.equal(seen.tls, seen.connections);
    assert.equal(seen.plain, 0);
    assert.equal(else_.segments, 0);
    assert.match(JSON.stringify(job), /X25519MLKEM768/);
    for (const host of [a, b]) assert.deepEqual(await leftOf(host), []);
  });

  it('3. migrates with four parallel connections', async () => {
    const job = await migrated(pinned('guest', 'host-a', 'host-b', { parallel: 4 }));
    await findIntact(b, GUEST);
    assert.match(JSON.stringify(job), /5 streams|"streams":5/);
    for (const host of [a, b]) assert.deepEqual(await leftOf(host), []);
  });

  it('4. migrates with the storage, over a stream of its own', async () => {
    await Promise.all([startGuest(a, DISKED), receiveGuest(b, DISKED)]);
    const others = await watchWire(fleet.lab, LIBVIRT_AND_QEMU);
    await migrated(pinned('disked', 'host-a', 'host-b', { copyStorage: 'all' }));
    await findIntact(b, DISKED);
    assert.equal((await others.stop()).segments, 0);
    for (const host of [a, b]) assert.deepEqual(await leftOf(host), []);
  });
});
