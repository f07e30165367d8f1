import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { madeUpPin } from '@virt-trust/channel/fixtures.ts';
import { temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { testHost } from './fixtures.ts';
import { KnownAgents } from './known-agents.ts';

const [OLD, NEXT, OTHER] = [madeUpPin('old'), madeUpPin('next'), madeUpPin('other')];

test('agents are known by the keys that their hosts have now, and by none of those that they had', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const one = testHost('kvm1', { agentPins: [OLD, NEXT] });
  await repository.save(one);
  const agents = new KnownAgents(repository);
  await agents.start();
  assert.equal(agents.hostOf(OLD), one.id);
  assert.ok(agents.pins.isTrusted(NEXT));
  assert.equal(agents.hostOf(OTHER), undefined);
  await repository.update(one.id, (now) => ({ ...now, agentPins: [NEXT, OTHER] }));
  await setImmediate();
  assert.equal(agents.hostOf(OLD), undefined);
  assert.ok(!agents.pins.isTrusted(OLD));
  assert.equal(agents.hostOf(OTHER), one.id);
});

test('of two hosts with one key, as a machine that was added twice, either may go', async (t) => {
  const repository = new SqliteHostRepository(temporaryStore(t).database);
  const [one, two] = [testHost('kvm1', { agentPins: [OLD] }), testHost('kvm2', { agentPins: [OLD] })];
  for (const host of [one, two]) await repository.save(host);
  const agents = new KnownAgents(repository);
  await agents.start();
  await repository.remove(two.id);
  await setImmediate();
  assert.equal(agents.hostOf(OLD), one.id);
  assert.ok(agents.pins.isTrusted(OLD));
});
