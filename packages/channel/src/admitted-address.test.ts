import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dialChannel } from './dial.ts';
import { startAgent } from './fixtures.ts';

test('a manager that comes from an address that is not let in is cut off before the handshake', async (t) => {
  const asked: string[] = [];
  const agent = await startAgent(t, {
    admitAddress: (remoteAddress) => {
      asked.push(remoteAddress);
      return asked.length > 1;
    },
  });
  const refusal = agent.nextRefusal();
  await assert.rejects(dialChannel({ ...agent.target, timeoutMs: 60_000 }), { category: 'unavailable' });
  assert.deepEqual(await refusal, { remoteAddress: '127.0.0.1', reason: { kind: 'address' }, suppressed: 0 });
  const session = await dialChannel({ ...agent.target, timeoutMs: 60_000 });
  await session.close();
  assert.deepEqual(asked, ['127.0.0.1', '127.0.0.1']);
});
