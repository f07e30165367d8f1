import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConnectionState } from '@virt-trust/channel/connection.ts';
import { agentGone } from './agent-gone.ts';

const UP = { kind: 'up' } as ConnectionState;
const DOWN = { kind: 'down' } as ConnectionState;
const signal = new AbortController().signal;

test('an agent that takes itself away is waited for', async () => {
  const channel = { state: UP };
  let looks = 0;
  await agentGone(channel, signal, async () => {
    if (++looks === 3) channel.state = DOWN;
  });
  assert.equal(looks, 3);
});

test('one that is gone is not waited for, and one that stays not for ever', async () => {
  const asleep: number[] = [];
  const sleep = async (ms: number) => void asleep.push(ms);
  await agentGone({ state: DOWN }, signal, sleep);
  assert.deepEqual(asleep, []);
  await agentGone({ state: UP }, signal, sleep);
  const waited = asleep.reduce((sum, ms) => sum + ms, 0);
  assert.ok(waited >= 10_000 && waited <= 60_000, String(waited));
});

test('a manager that stops waits no longer', async () => {
  await assert.rejects(agentGone({ state: UP }, AbortSignal.abort()), { name: 'AbortError' });
});
