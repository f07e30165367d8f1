import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { announce } from '@virt-trust/channel/announcement.ts';
import { identityOf, startAgent, type TestAgent } from '@virt-trust/channel/fixtures.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { Counter } from '../metrics/metrics.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import { temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { Announcements } from './announcements.ts';
import { HostChannels } from './channels.ts';
import { declaredOn, testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import { channelIsUpAt, managerAddressesFor, otherAddressesOf } from './readdressing.ts';

/** A manager with its channels and its door for announcements, on a store. */
async function managerOn(t: TestContext, identity: ChannelIdentity<'manager'>) {
  const { database } = temporaryStore(t, systemClock);
  const repository = new SqliteHostRepository(database, systemClock);
  const audit = new SqliteAuditLog(database, systemClock);
  const ups: { name: string; address: string }[] = [];
  const waiting: (() => void)[] = [];
  const wake = () => {
    for (const one of waiting.splice(0)) one();
  };
  const channels = new HostChannels({
    identities: [identity],
    log: silentLog,
    otherAddressesOf: async (id) => {
      const host = await repository.get(id);
      return host === null ? [] : otherAddressesOf(host);
    },
    onState: (id, name, state) => {
      if (state.kind !== 'up') return;
      void channelIsUpAt(id, state.host, { repository }).then(() => {
        ups.push({ name, address: state.host });
        wake();
      });
    },
  });
  const counted: Record<string, number> = {};
  const counter: Counter = {
    add: ({ outcome = '' } = {}) => {
      counted[outcome] = (counted[outcome] ?? 0) + 1;
      wake();
    },
  };
  const dialled: string[] = [];
  const announcements = new Announcements({
    repository,
    channels: {
      announced: async (host, address) => {
        dialled.push(`${host.name} ${address}`);
        await channels.announced(host, address);
        wake();
      },
    },
    identity: () => identity,
    counter,
    clock: systemClock,
    log: silentLog,
    sleep: async () => {},
  });
  await announcements.start({ address: '127.0.0.1', port: 0 });
  t.after(async () => {
    await announcements.close();
    await channels.close();
  });
  const until = async (is: () => boolean) => {
    while (!is()) await new Promise<void>((resolve) => waiting.push(resolve));
  };
  return { repository, audit, channels, announcements, ups, dialled, counted, until };
}

type Manager = Awaited<ReturnType<typeof managerOn>>;

async function add(
  manager: Manager,
  name: string,
  agent: TestAgent,
  addresses: readonly string[],
  more: Partial<Host> = {},
) {
  const host = testHost(name, {
    channel: { address: addresses[0] ?? '', port: agent.target.port },
    agentPins: [agent.agent.pin],
    declared: declaredOn('eth0', { dns: [name], addresses: [...addresses] }),
    ssh: { destination: `root@${addresses[0]}` },
    ...more,
  });
  await manager.repository.save(host);
  return host;
}

function announceAs(manager: Manager, identity: ChannelIdentity<'agent'>, of: ChannelIdentity<'manager'>) {
  return announce({
    identity,
    trustedManagers: of.asPinSet(),
    host: '127.0.0.1',
    port: manager.announcements.port ?? 0,
    timeoutMs: 60_000,
  });
}

const audited = async (manager: Manager) =>
  (await manager.audit.list(0, 50)).map(({ actor, action, subject }) => `${actor} ${action} ${subject}`);

test('a host whose recorded address is not its own any more is where it answers, and ssh goes there too', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, agent.manager);
  const host = await add(manager, 'host-1', agent, ['127.0.0.2'], {
    channel: { address: '127.0.0.1', port: agent.target.port },
    ssh: { destination: 'root@127.0.0.1' },
  });
  await (await manager.channels.of(host)).waitUntilUp(AbortSignal.timeout(60_000));
  await manager.until(() => manager.ups.length === 1);
  const now = await manager.repository.get(host.id);
  assert.equal(now?.channel.address, '127.0.0.2');
  assert.equal(now?.ssh.destination, 'root@127.0.0.2');
  assert.deepEqual(await audited(manager), ['system host.address host-1']);
  assert.ok(now);
  await manager.channels.of(now);
  assert.equal(manager.ups.length, 1, 'it goes on over the channel that it has');
});

test('a host that answers elsewhere while its address is declared is on a detour: what is recorded stays until that goes', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, agent.manager);
  const host = await add(manager, 'host-1', agent, ['127.0.0.1', '127.0.0.2']);
  const channel = await manager.channels.of(host);
  await channel.waitUntilUp(AbortSignal.timeout(60_000));
  await manager.until(() => manager.ups.length === 1);
  assert.equal(manager.channels.detourOf(host.id), '127.0.0.2');
  assert.equal((await manager.repository.get(host.id))?.channel.address, '127.0.0.1');
  await manager.repository.update(host.id, (now) => ({
    ...now,
    declared: declaredOn('eth0', { dns: ['host-1'], addresses: ['127.0.0.2'] }),
  }));
  const moved = await channelIsUpAt(host.id, '127.0.0.2', manager);
  assert.equal(moved.channel.address, '127.0.0.2');
  let told = 0;
  manager.repository.onChange(() => told++);
  await channelIsUpAt(host.id, '127.0.0.2', manager);
  assert.equal(told, 0, 'who follows hosts and asks this again would go round and round');
  await manager.channels.of(moved);
  assert.equal(manager.channels.detourOf(host.id), null);
  assert.equal(manager.ups.length, 1, 'it goes on over the channel that it has');
});

test('an address that is said and where nobody is costs no channel, and is tried first from then on', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, agent.manager);
  const host = await add(manager, 'host-1', agent, ['127.0.0.2']);
  await (await manager.channels.of(host)).waitUntilUp(AbortSignal.timeout(60_000));
  const said = { ...host, channel: { ...host.channel, address: '127.0.0.1' } };
  const { state } = await manager.channels.of(said);
  assert.equal(state.kind === 'up' && state.host, '127.0.0.2');
  assert.equal(manager.channels.detourOf(host.id), '127.0.0.2');
  await manager.channels.redial(said);
  assert.equal((await manager.channels.of(host)).state.kind, 'up');
});

test('a manager that stops opens no channel any more', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, agent.manager);
  const host = await add(manager, 'host-1', agent, ['127.0.0.2']);
  await manager.channels.close();
  await assert.rejects(manager.channels.of(host), { code: 'channel.closed' });
});

test('ssh to a name, and a channel that is dialled by name, stay as they were said', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, agent.manager);
  const host = await add(manager, 'host-1', agent, ['127.0.0.1', '127.0.0.2'], {
    channel: { address: 'nowhere.invalid', port: agent.target.port },
    ssh: { destination: 'root@host-1.example' },
  });
  await (await manager.channels.of(host)).waitUntilUp(AbortSignal.timeout(60_000));
  await manager.until(() => manager.ups.length === 1);
  const now = await manager.repository.get(host.id);
  assert.equal(now?.channel.address, 'nowhere.invalid');
  assert.equal(now?.ssh.destination, 'root@host-1.example');
  assert.deepEqual(await audited(manager), []);
});

test('a host none of whose addresses is known any more is dialled where it makes itself known', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.1' });
  const manager = await managerOn(t, agent.manager);
  const host = await add(manager, 'host-1', agent, ['127.0.0.7', '127.0.0.8']);
  const { dialsFrom } = await announceAs(manager, agent.agent, agent.manager);
  assert.deepEqual(dialsFrom, ['127.0.0.1']);
  await manager.until(() => manager.ups.length === 1);
  assert.equal(manager.channels.detourOf(host.id), '127.0.0.1');
  assert.deepEqual(manager.counted, { heard: 1 });
});

test("SECURITY: a host that announces itself moves no other host's channel, nor its own to where it does not answer", async (t) => {
  const first = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, first.manager);
  const host = await add(manager, 'host-1', first, ['127.0.0.2']);
  const channel = await manager.channels.of(host);
  await channel.waitUntilUp(AbortSignal.timeout(60_000));
  await manager.until(() => manager.ups.length === 1);
  // Its agent is on no port of the address it announces itself from.
  const second = identityOf('agent');
  await manager.repository.save(
    testHost('host-2', {
      channel: { address: '127.0.0.9', port: first.target.port },
      declared: declaredOn('eth0', { dns: ['host-2'], addresses: ['127.0.0.9'] }),
      agentPins: [second.pin],
    }),
  );
  await announceAs(manager, second, first.manager);
  await manager.until(() => manager.dialled.length === 1);
  assert.deepEqual(manager.dialled, ['host-2 127.0.0.1']);
  assert.equal(channel.state.kind === 'up' && channel.state.host, '127.0.0.2');
  for (const [name, address] of [
    ['host-1', '127.0.0.2'],
    ['host-2', '127.0.0.9'],
  ] as const)
    assert.equal((await manager.repository.find(name))?.channel.address, address);
  assert.deepEqual(await audited(manager), []);
});

test('SECURITY: a machine that no host is recorded under is dialled nowhere, and one that goes on and on is dialled once', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, agent.manager);
  await add(manager, 'host-1', agent, ['127.0.0.2']);
  await assert.rejects(announceAs(manager, identityOf('agent'), agent.manager));
  assert.deepEqual(manager.dialled, []);
  await announceAs(manager, agent.agent, agent.manager);
  await announceAs(manager, agent.agent, agent.manager);
  await manager.until(() => manager.counted['heard'] === 2);
  assert.deepEqual(manager.dialled, ['host-1 127.0.0.1']);
});

test('a host that was removed is heard no more, and one that has new keys is heard by them', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.2' });
  const manager = await managerOn(t, agent.manager);
  const host = await add(manager, 'host-1', agent, ['127.0.0.2']);
  const next = identityOf('agent');
  await manager.repository.update(host.id, (now) => ({ ...now, agentPins: [agent.agent.pin, next.pin] }));
  await announceAs(manager, next, agent.manager);
  await manager.until(() => manager.ups.length === 1);
  await manager.channels.forget(host.id);
  await manager.repository.remove(host.id);
  await assert.rejects(announceAs(manager, next, agent.manager), { code: 'announcement.refused' });
});

test('a door for announcements that cannot be had keeps no manager from its work', async (t) => {
  const agent = await startAgent(t, { host: '127.0.0.1' });
  const manager = await managerOn(t, agent.manager);
  const warned: string[] = [];
  const second = new Announcements({
    repository: manager.repository,
    channels: manager.channels,
    identity: () => agent.manager,
    counter: { add: () => {} },
    clock: systemClock,
    log: { ...silentLog, warn: (_, message) => warned.push(message) },
  });
  await second.start({ address: '127.0.0.1', port: manager.announcements.port ?? 0 });
  assert.equal(second.port, null);
  assert.equal(warned.length, 1);
  await second.close();
});

test('managers are announced to where they came from, would come from now, and are said to be', async () => {
  const host = testHost('host-1', {
    channel: { address: '127.0.0.5', port: 16515 },
    managerAddresses: ['192.0.2.1'],
    declared: declaredOn('eth0', { dns: [], addresses: ['127.0.0.5'] }),
  });
  const settingsOf = async () => ({ managerAddresses: ['198.51.100.1', '192.0.2.1'] }) as never;
  assert.deepEqual(await managerAddressesFor(host, { settingsOf }), [
    '192.0.2.1',
    '198.51.100.1',
    '127.0.0.1',
  ]);
});
