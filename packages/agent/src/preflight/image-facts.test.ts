import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readImage } from './image-facts.ts';

test('QEMU qcow2.txt: the size is what the guest sees; of other files it is their own', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'vt-image-'));
  t.after(() => rm(directory, { recursive: true }));
  const write = async (name: string, bytes: Buffer) => {
    const path = join(directory, name);
    await writeFile(path, bytes);
    return path;
  };
  const qcow = Buffer.alloc(104);
  qcow.writeUInt32BE(0x514649fb);
  qcow.writeUInt32BE(3, 4);
  qcow.writeBigUInt64BE(20n * 2n ** 30n, 24);
  assert.deepEqual(await readImage(await write('a', qcow)), {
    format: 'qcow2',
    bytes: 20 * 2 ** 30,
    base: null,
  });
  assert.deepEqual(await readImage(await write('b', Buffer.alloc(1000))), {
    format: 'other',
    bytes: 1000,
    base: null,
  });
  // Too short to be an image, whatever it begins with.
  assert.deepEqual(await readImage(await write('c', qcow.subarray(0, 20))), {
    format: 'other',
    bytes: 20,
    base: null,
  });
  assert.deepEqual(await readImage(await write('d', Buffer.alloc(0))), {
    format: 'other',
    bytes: 0,
    base: null,
  });
});

test('a path that leads to no file is neither read nor waited for', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'vt-image-'));
  t.after(() => rm(directory, { recursive: true }));
  execFileSync('mkfifo', [join(directory, 'pipe')]);
  for (const path of [join(directory, 'pipe'), directory, join(directory, 'nothing'), '/dev/zero'])
    assert.equal(await readImage(path), null, path);
});
