import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServedManager } from './fixtures.ts';

test('serve --rotate-seal-key replaces the seal key at a start; what was sealed is still there', async (t) => {
  const manager = await ServedManager.start();
  t.after(() => manager.stop());
  const key = () => readFileSync(join(manager.stateDirectory, 'seal.key'), 'utf8');
  const identity = () => manager.shell.run('virt-trust manager identity');
  const [oldKey, oldIdentity] = [key(), await identity()];
  await manager.restart();
  assert.equal(key(), oldKey);
  await manager.restart('--rotate-seal-key');
  assert.notEqual(key(), oldKey);
  assert.deepEqual(await identity(), oldIdentity);
  assert.match((await manager.shell.run('virt-trust audit list')).output, /manager +seal\.rotate/);
});

test('a second manager on the same state, or a directory that is not there, is refused with the way out', async (t) => {
  const manager = await ServedManager.start();
  t.after(() => manager.stop());
  const serve = (directory: string) =>
    manager.shell.run(`virt-trust serve --state-dir ${directory} --listen 127.0.0.1:0 --program /bin/true`);
  const second = await serve(manager.stateDirectory);
  assert.equal(second.code, 4, second.output);
  assert.match(second.output, /^error: cannot .*\nhint: /m);
  const nowhere = await serve('/dev/null/virt-trust');
  assert.notEqual(nowhere.code, 0);
  assert.match(nowhere.output, /^error: cannot .*\/dev\/null\/virt-trust/m);
});
