import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { temporaryDirectory } from './fixtures.ts';
import { openStateDirectory } from './state-directory.ts';

const locked = (error: unknown): boolean => isTrustError(error, 'store.locked') && error.hint !== undefined;

test('a state directory is made for its owner alone, whatever the umask', (t) => {
  const before = process.umask(0o000);
  t.after(() => process.umask(before));
  const path = join(temporaryDirectory(t), 'a', 'b');
  openStateDirectory(path).release();
  assert.equal((statSync(path).mode & 0o777).toString(8), '700');
  assert.equal((statSync(join(path, 'manager.lock')).mode & 0o777).toString(8), '600');
});

test('a directory with files in it that others may enter is refused rather than changed', (t) => {
  const path = join(temporaryDirectory(t), 'state');
  mkdirSync(path);
  writeFileSync(join(path, 'somebodys'), '');
  chmodSync(path, 0o755);
  assert.throws(
    () => openStateDirectory(path),
    (error) => isTrustError(error, 'store.directory_open'),
  );
  assert.equal((statSync(path).mode & 0o777).toString(8), '755');
});

test('two managers in one process cannot open the same state', (t) => {
  const path = temporaryDirectory(t);
  const first = openStateDirectory(path);
  assert.throws(() => openStateDirectory(path), locked);
  first.release();
  openStateDirectory(path).release();
});

test('a manager in another process keeps others out until it dies, even by SIGKILL', async (t) => {
  const path = temporaryDirectory(t);
  const program = `
    const { openStateDirectory } = await import(${JSON.stringify(new URL('state-directory.ts', import.meta.url).href)});
    openStateDirectory(process.argv[1]);
    console.log('locked');
    setInterval(() => {}, 1e6);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.throws(() => openStateDirectory(path), locked);
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
  openStateDirectory(path).release();
});
