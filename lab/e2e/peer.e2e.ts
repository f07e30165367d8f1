import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { deleteGrant, listGrants, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { listEvents } from '@virt-trust/contract/agent/operations.ts';
import { type Grant, PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import { canBootLab } from '../src/capability.ts';
import { exec } from '../src/command.ts';
import { type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { heardFrom } from './leftovers.ts';
import { nothingLeft, runsOnlyOn } from './migration-remains.ts';
import { migrate, whileRunning } from './migration-sight.ts';
import type { PeerAnswers, PeerCalls } from './peer-caller.ts';
import { type SecondManager, secondManager } from './second-manager.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const STATE = '/var/lib/virt-trust/agent';
const PATIENCE = 180_000;
const AGENT = 'virt-trust-agent';
const [OURS, THEIRS] = ['ours', 'theirs'].map(
  // Writes more than the 1 MiB/s that it is sent with: its migration ends once it is let go, or never.
  (name): Guest => ({ name, memoryMiB: 32, dirtyMiBPerSecond: 4 }),
) as [Guest, Guest];

/** Lets in what a host needs to be reached for its administration, and nothing else. */
const RULES = `table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
    meta l4proto { icmp, icmpv6 } accept
    tcp dport 22 accept comment "ssh"
  }
}
`;

describe('two agents with a grant for each other, and a second manager that gives it', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let manager: SecondManager;
  const id = randomUUID();
  let uuid = '';

  /** Of the agent, as it stands on the host. */
  const keysOf = async (host: Host): Promise<{ certificate: string; privateKey: string }> =>
    JSON.parse(await host.readFile(`${STATE}/identity/keys.json`)).current;
  const pins = new Map<Host, readonly string[]>();

  const grantOf = (host: Host, peer: Host, change: Partial<Grant> = {}): Grant => ({
    id,
    role: host === a ? 'source' : 'destination',
    mode: 'tls',
    operations: ['status'],
    peer: {
      name: peer.name,
      pins: [...(pins.get(peer) ?? [])],
      addresses: [peer.address],
      reachedAt: [peer.address],
      port: PEER_PORT,
    },
    vm: { name: 'guest', uuid, xmlSha256: '0'.repeat(64), persistentXmlSha256: null, copiedDisks: [] },
    flags: 0,
    streams: 1,
    notAfter: Date.now() + 10 * MINUTE,
    ...change,
  });
  const put = (host: Host, grant: Grant) =>
    manager.of(host).call(putGrant, { params: { id: grant.id }, body: grant });
  const give = (host: Host, peer: Host, change: Partial<Grant> = {}) =>
    put(host, grantOf(host, peer, change));

  /** Calls from one host's network, with the key of whatever host. */
  async function ask(
    from: Host,
    to: Host,
    calls: PeerCalls['calls'],
    key: Host = from,
    dialTimeoutMs = 60_000,
  ): Promise<PeerAnswers> {
    const { certificate, privateKey } = await keysOf(key);
    const order: PeerCalls = { certificate, privateKey, peer: grantOf(from, to).peer, dialTimeoutMs, calls };
    const argv = ['ip', 'netns', 'exec', from.plan.namespace, process.execPath];
    const script = new URL('peer-caller.ts', import.meta.url).pathname;
    const { stdout, stderr } = await exec([...argv, script], { input: JSON.stringify(order) });
    assert.notEqual(stdout, '', stderr);
    return JSON.parse(stdout);
  }
  const listensAt = async (host: Host) =>
    (await host.run(['ss', '-Htln', `sport = :${PEER_PORT}`])).trim() !== '';
  const rulesFor = async (host: Host) =>
    (await host.run(['nft', 'list', 'ruleset'])).split('\n').filter((line) => line.includes(`${PEER_PORT}`));
  /** From the machine, which is no peer of anybody. */
  const reaches = (host: Host) =>
    new Promise<boolean>((resolve) => {
      const socket = connect({ host: host.address, port: PEER_PORT, timeout: 1500 });
      const end = (answer: boolean) => {
        socket.destroy();
        resolve(answer);
      };
      socket.once('connect', () => end(true));
      socket.once('timeout', () => end(false));
      socket.once('error', () => end(false));
    });

  before(async () => {
    fleet = await Fleet.up({ lab: `peer-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    for (const host of [a, b]) {
      await host.writeFile('/etc/nftables.conf', `flush ruleset\n${RULES}`);
      await host.run(['nft', '-f', '/etc/nftables.conf']);
    }
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    await startVm(a, { name: 'guest' });
    uuid = (await a.run(['virsh', '--connect', 'qemu:///system', 'domuuid', 'guest'])).trim();
    for (const host of [a, b]) pins.set(host, (await fleet.show(host.name)).agentPins);
    manager = await secondManager(pins);
  });
  after(async () => {
    await manager?.close();
    await fleet?.[Symbol.asyncDispose]();
  });

  it('1. no agent listens for others, and nothing is open for them, before there is a grant', async () => {
    for (const host of [a, b]) {
      assert.equal(await listensAt(host), false);
      assert.deepEqual(await rulesFor(host), []);
    }
  });

  it('2. a grant opens the door of each for the other, and for nobody else', async () => {
    assert.equal((await give(b, a, { operations: ['status', 'preflight'] })).port, PEER_PORT);
    await give(a, b);
    for (const [host, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      assert.equal(await listensAt(host), true);
      const rules = await rulesFor(host);
      assert.deepEqual(
        rules.map((line) => line.trim()),
        [`ip saddr ${peer.address} tcp dport ${PEER_PORT} accept comment "virt-trust:grant-${id}"`],
      );
      assert.equal(await reaches(host), false);
    }
  });

  it("3. each asks the other's libvirt of the VM, over a channel with both keys", async () => {
    const [fromB] = await ask(b, a, [{ operation: 'peerGetVmState', id }]);
    assert.equal((fromB?.answer as { state: string } | undefined)?.state, 'running', JSON.stringify(fromB));
    const [fromA] = await ask(a, b, [{ operation: 'peerGetVmState', id }]);
    assert.equal((fromA?.answer as { state: null } | undefined)?.state, null, JSON.stringify(fromA));
  });

  it("4. one with a host's key gets nothing but what was granted, and the host says who asked", async () => {
    const other = randomUUID();
    const answers = await ask(a, b, [
      { operation: 'peerGetVmState', id: other },
      { operation: 'peerCreateMigration', id, body: { xml: '<domain/>', persistentXml: null } },
      { operation: 'peerEndMigration', id, body: { outcome: 'done' } },
    ]);
    assert.deepEqual(
      answers.map(({ error }) => error),
      ['grant.none', 'grant.not_granted', 'grant.not_granted'],
    );
    await until('hear of it', PATIENCE, async () => {
      const { events } = await manager.of(b).call(listEvents, {});
      const refused = events.filter(({ kind }) => kind === 'grant.refused');
      return refused.length >= 3 && refused.every(({ message }) => message.includes(a.address))
        ? true
        : undefined;
    });
    // The right place with another host's key, and the right key from another place.
    const [stranger] = await ask(a, b, [{ operation: 'peerGetVmState', id }], b);
    assert.equal(stranger?.error, 'channel.peer_refused');
  });

  it('5. an agent that is killed has its door open again when it is back, for the same grants', async () => {
    const pid = async () => (await b.run(['systemctl', 'show', '-P', 'MainPID', AGENT])).trim();
    const killed = await pid();
    await b.run(['systemctl', 'kill', '--signal=KILL', AGENT]);
    await until('have the agent back', PATIENCE, async () => {
      const now = await pid();
      return now !== killed && now !== '0' && (await listensAt(b)) ? true : undefined;
    });
    await until('be heard by it again', PATIENCE, () =>
      manager
        .of(b)
        .call(listGrants, {})
        .catch(() => undefined),
    );
    const [again] = await ask(a, b, [{ operation: 'peerGetVmState', id }]);
    assert.ok(again?.answer, JSON.stringify(again));
  });

  it('6. a grant that expires closes by itself, and leaves that of another migration alone', async () => {
    const brief = randomUUID();
    await give(b, a, { id: brief, notAfter: Date.now() + 15 * SECOND });
    const [meanwhile] = await ask(a, b, [{ operation: 'peerGetVmState', id: brief }]);
    // On a busy machine its time may be over already.
    const over = ['grant.expired', 'grant.none'].includes(meanwhile?.error ?? '');
    assert.ok(meanwhile?.answer ?? over, JSON.stringify(meanwhile));
    await until('see it go', PATIENCE, async () => {
      const { grants } = await manager.of(b).call(listGrants, {});
      return grants.length === 1 && grants[0]?.id === id ? true : undefined;
    });
    // First the permission goes, then what it had opened.
    await until('see its rule go', PATIENCE, async () =>
      (await rulesFor(b)).some((line) => line.includes(brief)) ? undefined : true,
    );
    const [afterwards] = await ask(a, b, [
      { operation: 'peerGetVmState', id: brief },
      { operation: 'peerGetVmState', id },
    ]);
    assert.equal(afterwards?.error, 'grant.none');
  });

  it('7. with the last grant everything is as before: no socket, no rule, no file', async () => {
    for (const host of [a, b]) await manager.of(host).call(deleteGrant, { params: { id } });
    for (const host of [a, b]) {
      assert.equal(await listensAt(host), false);
      assert.deepEqual(await rulesFor(host), []);
      assert.equal((await host.exec(['test', '-e', `${STATE}/grants.json`])).code, 1);
    }
    // The firewall drops it: there is no answer to wait for.
    const [refused] = await ask(a, b, [{ operation: 'peerGetVmState', id }], a, 3000);
    assert.ok(refused?.error?.startsWith('channel.'), JSON.stringify(refused));
  });

  it('8. two managers migrate over the same two hosts at once, and neither is in the way of the other', async () => {
    await heardFrom(fleet, a.name, b.name);
    for (const guest of [OURS, THEIRS]) {
      await startGuest(a, guest);
      await receiveGuest(b, guest);
    }
    const wanted = { vm: OURS.name, from: a.name, to: b.name, mode: ['pinned' as const], bandwidthMiB: 1 };
    const job = await migrate(fleet, wanted);
    const slow = { from: a, to: b, options: { bandwidthMiB: 1 } };
    const theirs = await manager.migrate({ vm: THEIRS.name, ...slow });
    await whileRunning(fleet, job, 'see it send', ({ migration }) =>
      (migration?.progress?.processedBytes ?? 0) > 0 ? true : undefined,
    );
    await until('see the other send too', PATIENCE, async () => {
      const { phase, progress, error } = await theirs.status();
      assert.equal(phase, 'running', error?.message ?? '');
      return (progress?.processedBytes ?? 0) > 0 ? true : undefined;
    });
    // Each sees its own grants, and can neither change nor end the other's.
    for (const host of [a, b]) {
      const { grants } = await manager.of(host).call(listGrants, {});
      assert.deepEqual(
        grants.map((grant) => grant.id),
        [theirs.id],
      );
      await assert.rejects(manager.of(host).call(deleteGrant, { params: { id: job.id } }), {
        code: 'grant.not_yours',
      });
      await assert.rejects(put(host, grantOf(host, host === a ? b : a, { id: job.id })), {
        code: 'grant.not_yours',
      });
    }
    // The same VM is migrated by one of them.
    await assert.rejects(manager.migrate({ vm: OURS.name, ...slow }), (error: Error & { hint?: string }) => {
      assert.match(error.message, /ours is being migrated already/);
      assert.match(error.hint ?? '', /another manager/);
      return true;
    });
    const second = await migrate(fleet, { ...wanted, vm: THEIRS.name }).then(
      async (made) => fleet.finished(made).then(() => '', String),
      String,
    );
    assert.match(second, /libvirt on host-a works on theirs already/);
    // One that takes its grant back ends its own migration alone.
    await theirs.revoke(b);
    await until('see it end', PATIENCE, async () =>
      (await theirs.status()).phase === 'failed' ? true : undefined,
    );
    await theirs.revoke(a);
    await runsOnlyOn(THEIRS, a, b);
    await a.run(['virsh', '--connect', 'qemu:///system', 'migrate-setspeed', OURS.name, '1000']);
    await fleet.finished(job);
    await runsOnlyOn(OURS, b, a);
    await nothingLeft(a, b);
  });
});
