import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { ChannelConnection } from '@virt-trust/channel/connection.ts';
import { type ChannelIdentity, createChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { deleteGrant, listGrants, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import { listEvents } from '@virt-trust/contract/agent/operations.ts';
import { ApiClient } from '@virt-trust/contract/client.ts';
import { type Grant, PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import { canBootLab } from '../src/capability.ts';
import { exec } from '../src/command.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import type { PeerAnswers, PeerCalls } from './peer-caller.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const STATE = '/var/lib/virt-trust/agent';
const CHANNEL_PORT = 16515;
const PATIENCE = 30_000;
const AGENT = 'virt-trust-agent';

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
  let manager: ChannelIdentity<'manager'>;
  const clients = new Map<Host, ApiClient>();
  const connections: ChannelConnection[] = [];
  const id = randomUUID();
  let uuid = '';

  /** Of the agent, as it stands on the host. */
  const keysOf = async (host: Host): Promise<{ certificate: string; privateKey: string }> =>
    JSON.parse(await host.readFile(`${STATE}/identity/keys.json`)).current;
  const pins = new Map<Host, readonly string[]>();

  const clientOf = (host: Host) => {
    const client = clients.get(host);
    assert.ok(client);
    return client;
  };
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
    clientOf(host).call(putGrant, { params: { id: grant.id }, body: grant });
  const give = (host: Host, peer: Host, change: Partial<Grant> = {}) =>
    put(host, grantOf(host, peer, change));

  /** Calls from one host's network, with the key of whatever host. */
  async function ask(
    from: Host,
    to: Host,
    calls: PeerCalls['calls'],
    key: Host = from,
  ): Promise<PeerAnswers> {
    const { certificate, privateKey } = await keysOf(key);
    const order: PeerCalls = { certificate, privateKey, peer: grantOf(from, to).peer, calls };
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
    await fleet.stopManager();
    manager = await createChannelIdentity({ role: 'manager', randomness: systemRandomness });
    for (const host of [a, b]) {
      const managers = JSON.parse(await host.readFile(`${STATE}/managers.json`));
      managers.pins.push(manager.pin);
      await host.writeFile(`${STATE}/managers.json`, JSON.stringify(managers), 0o600);
      await host.run(['systemctl', 'restart', AGENT]);
      const target = {
        identity: manager,
        trustedAgentPins: new PinSet('agent', pins.get(host) ?? []),
        host: host.address,
        port: CHANNEL_PORT,
      };
      const connection = new ChannelConnection({ target, backOff: { firstMs: 100, maxMs: 500 } });
      connections.push(connection);
      await connection.waitUntilUp(AbortSignal.timeout(PATIENCE));
      clients.set(
        host,
        new ApiClient(async ({ method, path, headers, body }) => {
          const answer = await connection.request({
            method,
            path,
            headers,
            ...(body === undefined ? {} : { body }),
          });
          const contentType = String(answer.headers['content-type'] ?? '');
          return { status: answer.status, contentType, body: answer.body.toString('utf8') };
        }, host.name),
      );
    }
  });
  after(async () => {
    for (const connection of connections) await connection.close();
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
      const { events } = await clientOf(b).call(listEvents, {});
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
      clientOf(b)
        .call(listGrants, {})
        .catch(() => undefined),
    );
    const [again] = await ask(a, b, [{ operation: 'peerGetVmState', id }]);
    assert.ok(again?.answer, JSON.stringify(again));
  });

  it('6. a grant that expires closes by itself, and leaves that of another migration alone', async () => {
    const brief = randomUUID();
    await give(b, a, { id: brief, notAfter: Date.now() + 4000 });
    const [meanwhile] = await ask(a, b, [{ operation: 'peerGetVmState', id: brief }]);
    assert.ok(meanwhile?.answer ?? meanwhile?.error === 'grant.expired', JSON.stringify(meanwhile));
    await until('see it go', PATIENCE, async () => {
      const { grants } = await clientOf(b).call(listGrants, {});
      return grants.length === 1 && grants[0]?.id === id ? true : undefined;
    });
    assert.deepEqual(
      (await rulesFor(b)).filter((line) => line.includes(brief)),
      [],
    );
    const [afterwards] = await ask(a, b, [
      { operation: 'peerGetVmState', id: brief },
      { operation: 'peerGetVmState', id },
    ]);
    assert.equal(afterwards?.error, 'grant.none');
  });

  it('7. with the last grant everything is as before: no socket, no rule, no file', async () => {
    for (const host of [a, b]) await clientOf(host).call(deleteGrant, { params: { id } });
    for (const host of [a, b]) {
      assert.equal(await listensAt(host), false);
      assert.deepEqual(await rulesFor(host), []);
      assert.equal((await host.exec(['test', '-e', `${STATE}/grants.json`])).code, 1);
    }
    const [refused] = await ask(a, b, [{ operation: 'peerGetVmState', id }]);
    assert.ok(refused?.error?.startsWith('channel.'), JSON.stringify(refused));
  });
});
