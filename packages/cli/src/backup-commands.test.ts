import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServedManager } from './fixtures.ts';

test('a manager is backed up while it serves, rotates its seal key while it serves, and is restored with the key of then', async (t) => {
  const manager = await ServedManager.start();
  t.after(() => manager.stop());
  const { shell, stateDirectory } = manager;
  const run = async (line: string, code = 0) => {
    const ran = await shell.run(line);
    assert.equal(ran.code, code, `${line}: ${ran.output}`);
    return ran.output;
  };
  const key = () => readFileSync(join(stateDirectory, 'seal.key'), 'utf8');
  const identity = await run('virt-trust manager identity');
  const before = key();
  const backup = `virt-trust backup --state-directory ${stateDirectory} --to backup`;
  assert.match(await run(`${backup} --seal-key-to then.key`), /without the seal key/);
  assert.equal(statSync(join(shell.home, 'backup')).mode & 0o777, 0o600);
  assert.match(await run(backup, 4), /^error: cannot write .*backup: it is there already\nhint: /);
  assert.match(await run('virt-trust secret rotate'), /everything is sealed under key/);
  assert.notEqual(key(), before);
  assert.equal(await run('virt-trust manager identity'), identity);

  const restore = 'virt-trust restore --from backup --state-directory restored';
  assert.match(
    await run(restore, 3),
    /^error: cannot restore: the seal key is not at .*\nhint: .*--seal-key FILE/,
  );
  assert.match(await run(`${restore} --seal-key ${join(stateDirectory, 'seal.key')}`, 4), /sealed under key/);
  assert.equal(existsSync(join(shell.home, 'restored/manager.db')), false);
  const said = JSON.parse(await run(`${restore} --seal-key then.key --json`)) as { epoch: number };
  assert.ok(said.epoch > 1);
  await manager.restart('--state-dir', join(shell.home, 'restored'));
  assert.equal(await run('virt-trust manager identity'), identity);
  assert.match(await run('virt-trust audit verify'), /^intact/);
});
