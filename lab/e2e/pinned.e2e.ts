import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { deleteGrant, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import { type Grant, PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import { migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import { canBootLab } from '../src/capability.ts';
import { exec } from '../src/command.ts';
import { findIntact, type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { eventsOn } from './agent-sight.ts';
import { auditOf } from './audit-sight.ts';
import { Fleet } from './fleet.ts';
import { heardFrom } from './leftovers.ts';
import { livesOn, migrate, vmState, whileRunning } from './migration-sight.ts';
import type { Attack, AttackOutcome } from './pinned-attacker.ts';
import { leftOf } from './pinned-traces.ts';
import { type SecondManager, secondManager } from './second-manager.ts';
import { whileWatching } from './wire.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const GUEST: Guest = { name: 'guest', memoryMiB: 64, dirtyMiBPerSecond: 4 };
const DISKED: Guest = {
  name: 'disked',
  memoryMiB: 32,
  dirtyMiBPerSecond: 2,
  disk: { format: 'raw', sizeMiB: 64 },
};
/** The peer door and the relays. */
const BETWEEN_AGENTS = 'tcp and (port 16518 or portrange 16520-16583)';
/**
 * Everything of libvirt's and QEMU's own: RPC with and without TLS, streams, disks. QEMU's ports are among those that the
 * kernel gives to clients, SSH's and ours as well.
 */
const LIBVIRT_AND_QEMU =
  'tcp and (port 16509 or port 16514 or portrange 49152-49215) and not (port 22 or portrange 16515-16583)';
const WIRES = { agents: BETWEEN_AGENTS, others: LIBVIRT_AND_QEMU } as const;
const PATIENCE = 180_000;
const KEYS = '/var/lib/virt-trust/agent/identity/keys.json';
const VIRSH = ['virsh', '--connect', 'qemu:///system'];

/** What a source tries that was broken into, and its key taken. */
const ATTACKS = [
  'another procedure',
  'a look at another VM',
  "QEMU's monitor",
  "another VM's name",
  'changed XML',
  'other flags',
  'another socket',
  'a TCP port',
] as const;

describe('mode pinned: migrations between two hosts without libvirt PKI', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let second: SecondManager | undefined;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-pinned-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
  });
  after(async () => {
    await second?.close();
    await fleet?.[Symbol.asyncDispose]();
  });

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
    await heardFrom(fleet, 'host-a', 'host-b');
  });

  it('2. migrates a running VM there and back; the wire shows TLS between the agents and nothing else', async () => {
    const { result: job, wires } = await whileWatching(fleet.lab, WIRES, async () => {
      const there = await migrated(pinned('guest', 'host-a', 'host-b'));
      assert.equal(await vmState(b, 'guest'), 'running');
      assert.equal(await vmState(a, 'guest'), '');
      await findIntact(b, GUEST);
      await migrated(pinned('guest', 'host-b', 'host-a'));
      await findIntact(a, GUEST);
      return there;
    });
    const { agents: seen, others: else_ } = wires;
    assert.ok(seen.connections >= 6, JSON.stringify(seen));
    // Others are those by which the preflight asks whether a port is reached, which carry no byte.
    assert.ok(seen.tls >= 6, JSON.stringify(seen));
    assert.equal(seen.plain, 0);
    assert.equal(else_.segments, 0);
    assert.match(JSON.stringify(job), /X25519MLKEM768/);
    await nothingIsLeft();
  });

  it('3. migrates with four parallel connections', async () => {
    const job = await migrated(pinned('guest', 'host-a', 'host-b', { parallel: 4 }));
    await findIntact(b, GUEST);
    assert.match(JSON.stringify(job), /5 streams|"streams":5/);
    await nothingIsLeft();
  });

  it('4. migrates with the storage, over a stream of its own', async () => {
    await Promise.all([startGuest(a, DISKED), receiveGuest(b, DISKED)]);
    const { wires } = await whileWatching(fleet.lab, WIRES, async () => {
      await migrated(pinned('disked', 'host-a', 'host-b', { copyStorage: 'all' }));
      await findIntact(b, DISKED);
    });
    assert.equal(wires.others.segments, 0);
    await nothingIsLeft();
  });

  it('5. goes on while one agent is killed and the other is stopped', async () => {
    const job = await migrate(fleet, pinned('guest', 'host-b', 'host-a', { bandwidthMiB: 8 }));
    await whileRunning(fleet, job, 'see the stream begin', ({ progress }) =>
      (progress?.processedBytes ?? 0) > 4 << 20 ? true : undefined,
    );
    await a.run(['systemctl', 'kill', '-s', 'KILL', 'virt-trust-agent']);
    await b.run(['systemctl', 'stop', 'virt-trust-agent']);
    await b.run(['systemctl', 'start', 'virt-trust-agent']);
    await fleet.finished(job);
    await findIntact(a, GUEST);
    await nothingIsLeft();
    await heardFrom(fleet, 'host-a', 'host-b');
  });

  it('6. ends both sides when the cable is cut, the VM on exactly one host', async () => {
    const job = await migrate(fleet, pinned('guest', 'host-a', 'host-b', { bandwidthMiB: 2 }));
    await whileRunning(fleet, job, 'see the stream begin', ({ progress }) =>
      (progress?.processedBytes ?? 0) > 4 << 20 ? true : undefined,
    );
    await b.cutCable();
    try {
      const last = await until('see the job fail', 2 * PATIENCE, async () => {
        const now = await fleet.client.call(getJob, { params: { id: job.id } });
        return now.finishedAt === null ? undefined : now;
      });
      assert.equal(last.state, 'failed');
      await until('see the VM gone from host-b', PATIENCE, async () =>
        (await vmState(b, 'guest')) === '' ? true : undefined,
      );
      assert.equal(await vmState(a, 'guest'), 'running');
      await livesOn(a, GUEST);
    } finally {
      await b.plugCable();
    }
    await nothingIsLeft();
  });

  const grants = new Set<string>();
  /** What a manager would give host-b for a migration of the guest from host-a, for so long from now on. */
  const granted = async (ms: number): Promise<{ grant: Grant; xml: string; uuid: string }> => {
    const xml = await a.run([...VIRSH, 'dumpxml', 'guest', '--migratable', '--security-info']);
    const uuid = (await a.run([...VIRSH, 'domuuid', 'guest'])).trim();
    const { agentPins } = await fleet.show('host-a');
    const grant: Grant = {
      id: randomUUID(),
      role: 'destination',
      mode: 'pinned',
      operations: ['create', 'status', 'rpc', 'stream', 'disks'],
      peer: {
        name: 'host-a',
        pins: agentPins,
        addresses: [a.address],
        reachedAt: [a.address],
        port: PEER_PORT,
      },
      vm: {
        name: 'guest',
        uuid,
        xmlSha256: migrationXmlDigest(xml),
        persistentXmlSha256: null,
        copiedDisks: [],
      },
      flags: 1,
      streams: 1,
      notAfter: Date.now() + ms,
    };
    grants.add(grant.id);
    await second?.of(b).call(putGrant, { params: { id: grant.id }, body: grant });
    return { grant, xml, uuid };
  };
  /** With host-a's key, from host-a's network; in the grant's time or after it. */
  const attack = async (kind: string, ms = 10 * MINUTE, isLate = false): Promise<AttackOutcome> => {
    const { grant, xml, uuid } = await granted(ms);
    const { agentPins } = await fleet.show('host-b');
    const { current } = JSON.parse(await a.readFile(KEYS));
    const order: Attack = {
      ...current,
      kind,
      id: grant.id,
      vm: { name: 'guest', uuid, xml },
      peer: {
        name: 'host-b',
        pins: agentPins,
        addresses: [b.address],
        reachedAt: [b.address],
        port: PEER_PORT,
      },
      notBefore: isLate ? grant.notAfter + SECOND : 0,
    };
    const argv = ['ip', 'netns', 'exec', a.plan.namespace, process.execPath];
    const script = new URL('pinned-attacker.ts', import.meta.url).pathname;
    const { stdout, stderr } = await exec([...argv, script], { input: JSON.stringify(order) });
    assert.notEqual(stdout, '', stderr);
    return JSON.parse(stdout);
  };
  const cutOffs = async () => (await eventsOn(b)).filter(({ kind }) => kind === 'migration.cut_off');
  const nothingIsLeft = async () => {
    for (const host of [a, b])
      await until(`see nothing left on ${host.name}`, PATIENCE, async () =>
        (await leftOf(host)).length === 0 ? true : undefined,
      ).catch(async (error) => assert.fail(`${error}: ${(await leftOf(host)).join(', ')}`));
  };

  it('7. cuts off a source that was broken into, whatever it tries by hand, and tells of it', async () => {
    const hosts = new Map<Host, readonly string[]>();
    for (const host of [a, b]) hosts.set(host, (await fleet.show(host.name)).agentPins);
    second = await secondManager(hosts);
    for (const kind of ATTACKS) {
      const before = (await cutOffs()).length;
      const outcome = await attack(kind);
      assert.equal(outcome.ended, 'libvirt.lost', `${kind}: ${JSON.stringify(outcome)}`);
      await until(`see the event of ${kind}`, PATIENCE, async () =>
        (await cutOffs()).length > before ? true : undefined,
      );
      assert.equal(await vmState(a, 'guest'), 'running');
      assert.equal(await vmState(b, 'guest'), '');
    }
    assert.equal((await attack('changed XML at the door')).refused, 'migration.other_xml');
    await livesOn(a, GUEST);
    const audited = await until('see it in the audit', PATIENCE, async () => {
      const found = await auditOf(fleet, 'migration.cut_off');
      return found.length >= ATTACKS.length ? found : undefined;
    });
    assert.ok(audited.every(({ outcome }) => outcome === 'refused'));
  });

  it("8. lets in neither a stranger's key nor anybody after the grant's time", async () => {
    const stranger = await attack("a stranger's key");
    assert.match(stranger.refused ?? stranger.ended ?? '', /libvirt\.lost|relay\./, JSON.stringify(stranger));
    let late: AttackOutcome = {};
    // Its time begins before the relay is open, for which a busy machine may take all of it.
    for (let ms = 8 * SECOND; late.relayPort === undefined && ms <= 2 * MINUTE; ms *= 4) {
      late = await attack('another procedure', ms, true);
    }
    assert.ok(late.relayPort != null, JSON.stringify(late));
    assert.match(late.refused ?? late.ended ?? '', /libvirt\.lost|relay\./, JSON.stringify(late));
    assert.equal(await vmState(b, 'guest'), '');
  });

  it("9. cuts nothing when the grant's time is over, and lets what began open its streams after its disks", async () => {
    assert.ok(second);
    await receiveGuest(a, DISKED);
    const migration = await second.migrate({
      vm: 'disked',
      from: b,
      to: a,
      // Its disk takes 64 s; memory goes after that, over three connections.
      options: { copyStorage: 'all', bandwidthMiB: 1, parallel: 2 },
      grantMs: 45 * SECOND,
    });
    grants.add(migration.id);
    const running = await until('see the time go by', PATIENCE, async () => {
      const now = await migration.status();
      return Date.now() > migration.notAfter || now.phase !== 'running' ? now : undefined;
    });
    assert.equal(running.phase, 'running', JSON.stringify(running));
    await b.run([...VIRSH, 'migrate-setspeed', 'disked', '1000']);
    const done = await until('see it end', PATIENCE, async () => {
      const now = await migration.status();
      return now.phase === 'running' ? undefined : now;
    });
    assert.equal(done.phase, 'done', JSON.stringify(done));
    assert.equal(done.runsOn, 'destination');
    assert.equal(done.proof?.channel?.streams, 4, JSON.stringify(done.proof));
    await findIntact(a, DISKED);
  });

  it('10. leaves nothing when the grants are gone: no socket, port, process, rule or file', async () => {
    for (const id of grants)
      for (const host of [a, b]) await second?.of(host).call(deleteGrant, { params: { id } });
    await nothingIsLeft();
  });

  it('11. still migrates', async () => {
    await migrated(pinned('guest', 'host-a', 'host-b'));
    await findIntact(b, GUEST);
    await nothingIsLeft();
  });

  it('12. leaves nothing of the agents when the hosts are removed', async () => {
    for (const host of [a, b]) {
      await fleet.remove(host.name);
      // The agent answers before it takes itself away.
      await until(`see the agent of ${host.name} gone`, PATIENCE, async () => {
        const gone = await host.exec([
          'sh',
          '-c',
          '! systemctl is-active -q virt-trust-agent && ! test -e /run/virt-trust',
        ]);
        return gone.code === 0 ? true : undefined;
      });
    }
  });
});
