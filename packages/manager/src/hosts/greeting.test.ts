import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { identityOf, startAgent } from '@virt-trust/channel/fixtures.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import type { ManagerPins } from '@virt-trust/contract/model/agent-identity.ts';
import { Seal } from '../seal/seal.ts';
import { sealKeyOf } from '../seal/seal-key.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import type { Database } from '../store/database.ts';
import { temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteManagerIdentityStore } from '../store/manager-identity-store.ts';
import { markStoreRestored } from '../store/mark-restored.ts';
import { HostChannels } from './channels.ts';
import { testHost } from './fixtures.ts';
import { Greeting } from './greeting.ts';
import { ManagerIdentity } from './manager-identity.ts';
import type { HostsContext } from './ports.ts';

const SEAL = new Seal([sealKeyOf(systemRandomness.bytes(32))], systemRandomness);

interface Agent {
  readonly port: number;
  readonly keys: { current: ChannelIdentity<'agent'>; next: ChannelIdentity<'agent'> };
  managers: ManagerPins;
  /** The agent's key is its standby from now on, and another stands by. */
  roll(): void;
  obey(managers: ManagerPins): void;
}

/** An agent on loopback that keeps keys and managers as agents do. */
async function agentThatObeys(t: TestContext, managers: ManagerPins): Promise<Agent> {
  const keys = { current: identityOf('agent'), next: identityOf('agent') };
  const served = await startAgent(t, {
    handler: async (request, response) => {
      const answer = (status: number, body: object) => {
        response.writeHead(status, {
          'content-type': status === 200 ? 'application/json' : 'application/problem+json',
        });
        response.end(JSON.stringify(body));
      };
      if (request.url === '/v1/identity/announce')
        return answer(200, { current: keys.current.pin, next: keys.next.pin, previous: null });
      const body: Buffer[] = [];
      request.on('data', (chunk: Buffer) => body.push(chunk));
      await once(request, 'end');
      const given = JSON.parse(Buffer.concat(body).toString()) as ManagerPins;
      const { epoch, number } = agent.managers;
      if (given.epoch < epoch || (given.epoch === epoch && given.number < number)) {
        const problem = { type: 'about:blank', title: 'conflict', status: 409, detail: 'not newer' };
        return answer(409, { ...problem, code: 'managers.outdated' });
      }
      agent.obey(given);
      answer(200, given);
    },
  });
  const agent: Agent = {
    port: served.listener.address.port,
    keys,
    managers,
    roll() {
      keys.current = keys.next;
      keys.next = identityOf('agent');
      served.own.identity = keys.current;
      served.listener.refresh();
    },
    obey(given) {
      agent.managers = given;
      served.own.managers = new PinSet('manager', given.pins);
      served.listener.refresh();
    },
  };
  served.own.identity = keys.current;
  agent.obey(managers);
  return agent;
}

/** A manager on a store, with hosts; `settled` resolves once nothing is left to greet. */
async function managerOn(t: TestContext, database: Database) {
  const identity = await ManagerIdentity.open(
    new SqliteManagerIdentityStore(database, SEAL),
    systemRandomness,
  );
  const repository = new SqliteHostRepository(database);
  const audit = new SqliteAuditLog(database, systemClock);
  const greetings: Promise<void>[] = [];
  const signal = new AbortController().signal;
  const channels = new HostChannels({
    identities: identity.all,
    log: silentLog,
    onState: (_, name, state, ownPin) => {
      if (state.kind === 'up') greetings.push(greeting.greet(name, ownPin, signal));
    },
  });
  const context = {
    log: silentLog,
    repository,
    channels,
    audit: { append: (entry) => audit.append([entry]) },
  } as Partial<HostsContext> as HostsContext;
  const greeting = new Greeting(identity, context, []);
  t.after(() => channels.close());
  const greet = async () => {
    for (const host of await repository.list()) await (await channels.of(host)).waitUntilUp(signal);
    for (let done = 0; done < greetings.length; done++) await greetings[done];
  };
  return { identity, repository, channels, audit, greet };
}

async function fleet(t: TestContext, count: number) {
  const { database } = temporaryStore(t, systemClock);
  const manager = await managerOn(t, database);
  const agents: Agent[] = [];
  for (let index = 1; index <= count; index++) {
    const agent = await agentThatObeys(t, await manager.identity.managerPins());
    agents.push(agent);
    const { port, keys } = agent;
    await manager.repository.save(
      testHost(`host-${index}`, {
        channel: { address: '127.0.0.1', port },
        agentPins: [keys.current.pin, keys.next.pin],
      }),
    );
  }
  return { database, agents, ...manager };
}

/** The store as it is now, restored on a machine of its own. */
function restoredCopy(t: TestContext, database: Database): Database {
  const other = temporaryStore(t, systemClock).database;
  for (const table of ['hosts', 'host_names', 'manager_identities', 'manager_numbers']) {
    for (const row of database.all(`select * from ${table}`)) {
      const names = Object.keys(row);
      other.run(
        `insert into ${table} (${names.join()}) values (${names.map(() => '?').join()})`,
        ...(Object.values(row) as never[]),
      );
    }
  }
  markStoreRestored(other, systemClock, 'a test');
  return other;
}

test('a manager restored from before one rollover of its own key and one of each agent gets in, and puts all pins right', async (t) => {
  const { database, agents, identity } = await fleet(t, 3);
  const backup = restoredCopy(t, database);
  const [, standby] = identity.all;
  assert.ok(standby);
  await identity.useNext(standby.pin);
  await identity.retire();
  for (const agent of agents) {
    agent.roll();
    agent.obey(await identity.managerPins());
  }
  const restored = await managerOn(t, backup);
  assert.notEqual(restored.identity.current.pin, standby.pin);
  await restored.greet();
  assert.equal(restored.identity.current.pin, standby.pin);
  const wanted = await restored.identity.managerPins();
  assert.equal(wanted.pins.length, 2, 'the key of before is let go');
  for (const agent of agents) assert.deepEqual(agent.managers, wanted);
  assert.deepEqual(
    (await restored.repository.list()).map(({ agentPins }) => agentPins),
    agents.map(({ keys }) => [keys.current.pin, keys.next.pin]),
  );
  assert.equal(restored.identity.recovery, 'none');
  const told = (await restored.audit.list(0, 50)).map(({ action }) => action);
  assert.equal(told.filter((action) => action === 'manager.key_found').length, 1);
  assert.equal(told.filter((action) => action === 'host.pins').length, 3);
});

test('a manager restored with nothing rolled since keeps its key, and its hosts take its higher epoch', async (t) => {
  const { database, agents, identity } = await fleet(t, 2);
  for (const agent of agents) agent.obey({ ...(await identity.managerPins()), number: 40 });
  const restored = await managerOn(t, restoredCopy(t, database));
  await restored.greet();
  assert.equal(restored.identity.current.pin, identity.current.pin);
  assert.equal(restored.identity.recovery, 'none');
  for (const agent of agents) {
    assert.deepEqual(agent.managers, await restored.identity.managerPins());
    assert.ok(agent.managers.epoch > 1);
  }
});

test('SECURITY: a host that knows the manager by its standby does not make it roll, but once after a restore', async (t) => {
  const { agents, identity, greet } = await fleet(t, 2);
  const [first] = agents;
  const before = identity.all.map(({ pin }) => pin);
  assert.ok(first);
  first.obey({ epoch: 1, number: 1, pins: [before[1] as SpkiPin] });
  await greet();
  assert.deepEqual(
    identity.all.map(({ pin }) => pin),
    before,
  );
  assert.deepEqual(
    first.managers.pins,
    before,
    'it is told how things are, over the channel that it lets in',
  );
});

test('SECURITY: a host that says that another host’s key is its own is refused that, once in the audit log', async (t) => {
  const { agents, repository, audit, channels, greet } = await fleet(t, 2);
  const [bad, good] = agents;
  assert.ok(bad && good);
  const before = (await repository.list()).map(({ agentPins }) => agentPins);
  bad.keys.next = good.keys.current;
  await greet();
  for (const host of await repository.list()) await channels.redial(host);
  await greet();
  assert.deepEqual(
    (await repository.list()).map(({ agentPins }) => agentPins),
    before,
  );
  const told = await audit.list(0, 50);
  assert.deepEqual(
    told.map(({ action, subject, outcome }) => `${action} ${subject} ${outcome}`),
    ['host.pins host-1 refused'],
  );
});
