import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { ApiClient } from '@virt-trust/contract/client.ts';
import type { ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import type { Database } from '../store/database.ts';
import { SqliteEventStore } from '../store/event-store.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteWatchStore } from '../store/watch-store.ts';
import type { HostChannel } from './channels.ts';
import { settledState, testHost } from './fixtures.ts';
import type { Host } from './host.ts';
import { Observing } from './observing.ts';
import { Watching } from './watching.ts';

/** An agent with events and a state, asked as over a channel; `quiet` resolves when a long poll waits at it. */
class FakeAgent {
  events: string[] = [];
  kind = 'libvirt.changed';
  /** The number before the first event that it still has. */
  before = 0;
  observed: ObservedState = settledState('ours');
  reads = 0;
  lost = false;
  /** Held back before a state is answered. */
  gate: Promise<void> = Promise.resolve();
  #polls: (() => void)[] = [];
  #quiet = Promise.withResolvers<void>();

  get last(): number {
    return this.before + this.events.length;
  }

  say(...events: string[]): void {
    this.events.push(...events);
    this.#quiet = Promise.withResolvers();
    for (const poll of this.#polls.splice(0)) poll();
  }

  quiet(): Promise<void> {
    return this.#quiet.promise;
  }

  channel(): HostChannel {
    const agent = new ApiClient(async ({ path, signal }) => {
      if (this.lost) throw new TrustError('channel.interrupted', 'unavailable', 'cannot go on: cut');
      const answer = (value: unknown) => ({
        status: 200,
        contentType: 'application/json',
        body: JSON.stringify(value),
      });
      const url = new URL(path, 'http://agent');
      if (url.pathname === '/v1/observed-state') {
        this.reads += 1;
        const { observed } = this;
        await this.gate;
        return answer(observed);
      }
      const after = Number(url.searchParams.get('after') ?? 0);
      if (url.searchParams.has('wait') && this.last <= after) {
        await new Promise<void>((resolve, reject) => {
          this.#polls.push(resolve);
          signal?.addEventListener('abort', () => {
            this.#quiet = Promise.withResolvers();
            reject(signal.reason);
          });
          this.#quiet.resolve();
        });
      }
      const limit = Number(url.searchParams.get('limit') ?? 1000);
      const events = this.events
        .map((message, index) => ({
          sequence: this.before + index + 1,
          at: 0,
          kind: this.kind,
          subject: '',
          message,
        }))
        .filter((event) => event.sequence > after)
        .slice(0, limit);
      return answer({ events, last: this.last });
    }, 'the agent');
    return { agent, state: { kind: 'connecting' }, waitUntilUp: async () => {} };
  }
}

/** A manager that watches one host, until `stop`. */
function managerOn(t: TestContext, database: Database, agent: FakeAgent) {
  const clock = settableClock();
  const repository = new SqliteHostRepository(database);
  const observing = new Observing(repository);
  const stop = new AbortController();
  t.after(() => stop.abort());
  const pauses: number[] = [];
  const watching = new Watching({
    repository,
    channels: { of: async () => agent.channel() },
    observing,
    store: new SqliteWatchStore(database, clock, () => {}),
    randomness: systemRandomness,
    log: silentLog,
    signal: stop.signal,
    sleep: async (ms, signal) => {
      signal.throwIfAborted();
      pauses.push(ms);
    },
  });
  repository.onChange((id) => watching.written(id));
  const published = async () =>
    (await new SqliteEventStore(database, clock).list(0, 1000)).map(
      ({ kind, subject, message }) => `${kind} ${subject}: ${message}`,
    );
  return { repository, observing, watching, published, pauses, stop: () => stop.abort() };
}

async function watched(t: TestContext, more: Partial<Host> = {}) {
  const { database } = temporaryStore(t);
  const agent = new FakeAgent();
  const host = testHost('host-1', { observed: null, ...more });
  await new SqliteHostRepository(database).save(host);
  return { database, agent, host, ...managerOn(t, database, agent) };
}

test('a host that came up is read once, and then only when something happens on it', async (t) => {
  const { agent, host, watching, repository, published } = await watched(t);
  agent.events = ['from before'];
  const seen: (boolean | undefined)[] = [];
  repository.onChange(async (id) => seen.push((await repository.get(id))?.observed?.busy));
  watching.up(host.id);
  watching.up(host.id);
  await agent.quiet();
  assert.deepEqual([agent.reads, await published(), seen], [1, [], [false]]);
  agent.observed = settledState('ours', { busy: true });
  agent.say('one', 'two');
  await agent.quiet();
  assert.deepEqual([agent.reads, seen], [2, [false, true]]);
  assert.equal((await repository.find('host-1'))?.observed?.busy, true);
  assert.deepEqual(await published(), [
    'host.libvirt.changed host-1: one',
    'host.libvirt.changed host-1: two',
  ]);
});

test('what happened while the manager was down is told once, after a start too', async (t) => {
  const { agent, host, watching, database, published, stop } = await watched(t);
  watching.up(host.id);
  await agent.quiet();
  agent.say('before');
  await agent.quiet();
  stop();
  agent.say('meanwhile');
  const second = managerOn(t, database, agent);
  second.watching.up(host.id);
  await agent.quiet();
  second.stop();
  const third = managerOn(t, database, agent);
  third.watching.up(host.id);
  await agent.quiet();
  assert.deepEqual(
    (await published()).map((line) => line.split(': ')[1]),
    ['before', 'meanwhile'],
  );
});

test('a channel that breaks is followed again from where it was, and a host that was removed is let go', async (t) => {
  const { agent, host, watching, published, repository } = await watched(t);
  watching.up(host.id);
  await agent.quiet();
  agent.lost = true;
  agent.say('while it was cut');
  watching.down(host.id);
  agent.lost = false;
  watching.up(host.id);
  await agent.quiet();
  assert.equal((await published()).length, 1);
  await repository.remove(host.id);
  agent.say('of nobody');
  watching.up(host.id);
  assert.equal((await published()).length, 1);
});

test('an agent that begins anew is taken as it is', async (t) => {
  const { agent, host, watching, published, database, stop } = await watched(t);
  agent.events = Array.from({ length: 50 }, String);
  watching.up(host.id);
  await agent.quiet();
  stop();
  agent.events = ['installed anew'];
  const second = managerOn(t, database, agent);
  second.watching.up(host.id);
  await agent.quiet();
  assert.deepEqual(await published(), []);
  agent.say('new');
  await agent.quiet();
  assert.deepEqual(await published(), ['host.libvirt.changed host-1: new']);
});

test('while a job works on a host its state is left alone, and read once the job is over', async (t) => {
  const { agent, host, watching, repository } = await watched(t, { state: 'provisioning' });
  watching.up(host.id);
  await agent.quiet();
  agent.say('a step');
  await agent.quiet();
  assert.equal(agent.reads, 0);
  const read = Promise.withResolvers<void>();
  repository.onChange(async (id) => {
    if ((await repository.get(id))?.observed !== null) read.resolve();
  });
  await repository.update(host.id, (now) => ({ ...now, state: 'failed' }));
  await read.promise;
  assert.equal(agent.reads, 1);
  assert.equal((await repository.find('host-1'))?.state, 'failed');
});

test('an answer that is older never takes the place of a newer one', async (t) => {
  const { agent, host, observing, repository } = await watched(t);
  const slow = Promise.withResolvers<void>();
  agent.gate = slow.promise;
  const signal = new AbortController().signal;
  const first = observing.refresh(host.id, agent.channel(), signal);
  agent.observed = settledState('ours', { number: 2 });
  const second = observing.refresh(host.id, agent.channel(), signal);
  slow.resolve();
  await Promise.all([first, second]);
  assert.equal((await repository.find('host-1'))?.observed?.number, 2);
});

test('SECURITY: a host where one thing follows the other is read less and less often', async (t) => {
  const { agent, host, watching, pauses } = await watched(t);
  watching.up(host.id);
  await agent.quiet();
  for (let n = 0; n < 13; n++) {
    agent.say(`event ${n}`);
    await agent.quiet();
  }
  assert.deepEqual(pauses, [...Array(8).fill(500), 1000, 2000, 4000, 5000, 5000]);
});

test('a network that has come to rest is read at once; SECURITY: not one that never does', async (t) => {
  const { agent, host, watching, pauses } = await watched(t);
  agent.kind = 'network.changed';
  watching.up(host.id);
  await agent.quiet();
  for (let n = 0; n < 10; n++) {
    agent.say(`event ${n}`);
    await agent.quiet();
  }
  assert.equal(agent.reads, 11);
  assert.deepEqual(pauses, [1000, 2000]);
});

test('SECURITY: a host that talks without end is listened to with pauses', async (t) => {
  const { agent, host, watching, published, pauses } = await watched(t);
  watching.up(host.id);
  await agent.quiet();
  agent.say(...Array.from({ length: 450 }, String));
  await agent.quiet();
  assert.equal((await published()).length, 450);
  assert.equal(pauses.filter((pause) => pause >= 10_000).length, 4);
});
