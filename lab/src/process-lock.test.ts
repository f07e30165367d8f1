import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { lock, tryLock } from './process-lock.ts';

const name = (text: string) => `test/${process.pid}/${text}`;

test('a lock is held once and free again after its release', async () => {
  const held = await tryLock(name('once'));
  assert.ok(held);
  assert.equal(await tryLock(name('once')), undefined);
  await held.release();
  const again = await tryLock(name('once'));
  assert.ok(again);
  await again.release();
});

test('who waits for a lock gets it when the holder lets go', async () => {
  const held = await tryLock(name('wait'));
  assert.ok(held);
  const waits = Promise.withResolvers<void>();
  const next = lock(name('wait'), waits.resolve);
  await waits.promise;
  await held.release();
  await (await next).release();
});

test('who waits for a lock gets it when the holder is killed', async () => {
  const script = `import { tryLock } from ${JSON.stringify(new URL('process-lock.ts', import.meta.url).href)};
    await tryLock(${JSON.stringify(name('kill'))}); console.log('held'); setInterval(() => {}, 1e6);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  const next = lock(name('kill'), () => holder.kill('SIGKILL'));
  await (await next).release();
  assert.equal(holder.killed, true);
});
