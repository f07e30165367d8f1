import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import Type from 'typebox';
import { temporaryRoot } from '../fixtures.ts';
import { replaceLink, writeFileAtomic } from './atomic-file.ts';
import { Document } from './document.ts';
import { IdentityStore } from './identity.ts';

if (process.argv[2] === 'roll-forever') {
  const { store } = await IdentityStore.open(process.argv[3] ?? '', systemRandomness);
  // Waits until it is in the pipe, where the parent finds it also after a kill.
  const tell = (message: object) => new Promise((resolve) => process.send?.(message, resolve));
  for (;;) {
    const { next } = await store.announce();
    await tell({ announced: next });
    const { current, previous } = await store.activate(next ?? '');
    await tell({ activated: current });
    await store.retire(previous ?? '');
  }
}

test('a file is replaced with its mode, whatever stood at its place or beside it', async (t) => {
  const root = await temporaryRoot(t);
  const path = join(root, 'file');
  await writeFile(join(root, 'other'), 'other');
  await symlink(join(root, 'other'), path);
  // What a crash left behind.
  await symlink(join(root, 'other'), join(root, '.file.virt-trust-new'));
  await writeFileAtomic(path, 'content', { mode: 0o640 });
  assert.equal(await readFile(path, 'utf8'), 'content');
  assert.equal((await stat(path)).mode & 0o7777, 0o640);
  assert.equal(await readFile(join(root, 'other'), 'utf8'), 'other');
  await replaceLink(path, 'other');
  assert.equal(await readlink(path), 'other');
  assert.deepEqual((await readdir(root)).sort(), ['file', 'other']);
});

test('a reader sees one whole content or the other while many write', async (t) => {
  const path = join(await temporaryRoot(t), 'file');
  const contents = ['a', 'b', 'c'].map((letter) => letter.repeat(100_000));
  await writeFileAtomic(path, contents[0] ?? '', { mode: 0o600 });
  const writing = Promise.all(contents.map((content) => writeFileAtomic(path, content, { mode: 0o600 })));
  let done = false;
  void writing.then(() => {
    done = true;
  });
  while (!done) assert.ok(contents.includes(await readFile(path, 'utf8')));
});

test('a damaged document is an error that names the file and the way out', async (t) => {
  const path = join(await temporaryRoot(t), 'document.json');
  const document = new Document(path, Type.Object({ number: Type.Integer() }), 'Do this.');
  assert.equal(await document.read(), undefined);
  await document.write({ number: 7 });
  assert.deepEqual(await document.read(), { number: 7 });
  for (const damaged of ['', '{"number":', '{"number":"7"}', '\0\0\0']) {
    await writeFile(path, damaged);
    await assert.rejects(document.read(), (error: Error & { code?: string; hint?: string }) => {
      assert.equal(error.code, 'state.corrupt');
      assert.ok(error.message.includes(path));
      assert.equal(error.hint, 'Do this.');
      return true;
    });
  }
  await assert.rejects(document.write({ number: 'x' } as never), { code: 'contract.invalid' });
});

test('an agent killed while its key is rolled over has the key it last told of', async (t) => {
  const directory = join(await temporaryRoot(t), 'identity');
  await mkdir(directory);
  for (let round = 0; round < 3; round++) {
    const child = fork(import.meta.filename, ['roll-forever', directory], { execArgv: [] });
    let told: { announced?: string; activated?: string } = {};
    let messages = 0;
    child.on('message', (message: typeof told) => {
      told = message;
      messages++;
      if (messages === 5 + round) child.kill('SIGKILL');
    });
    await Promise.all(
      ['exit', 'disconnect'].map((event) => new Promise((resolve) => child.once(event, resolve))),
    );
    const { store, made } = await IdentityStore.open(directory, systemRandomness);
    assert.equal(made, false);
    const { current, next, previous } = store.describe();
    const known = [current, next, previous];
    assert.ok(known.includes(told.announced ?? told.activated ?? ''));
  }
});
