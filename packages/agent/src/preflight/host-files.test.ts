import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type DiskFile, type FilesQuestion, lookAtFiles } from './host-files.ts';

const NOBODY = { reader: { name: 'nobody', uid: 65534, gids: [65534] }, user: { uid: 65534, gid: 65534 } };
const ROOT = { reader: null, user: { uid: 0, gid: 0 } };

async function directoryFor(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'vt-files-'));
  t.after(() => rm(directory, { recursive: true }));
  await chmod(directory, 0o755);
  return directory;
}

/** A qcow2 image (QEMU's qcow2.txt, version 3) that is based on another. */
function overlay(base: string, format = ''): Buffer {
  const image = Buffer.alloc(1024);
  image.writeUInt32BE(0x514649fb);
  image.writeUInt32BE(3, 4);
  image.writeBigUInt64BE(512n, 8);
  image.writeUInt32BE(Buffer.byteLength(base), 16);
  image.writeBigUInt64BE(4096n, 24);
  image.writeUInt32BE(104, 100);
  if (format !== '') {
    image.writeUInt32BE(0xe2792aca, 104);
    image.writeUInt32BE(format.length, 108);
    image.write(format, 112);
  }
  image.write(base, 512);
  return image;
}

async function codesOf(
  disk: Partial<DiskFile> & { path: string },
  as: Pick<FilesQuestion, 'reader' | 'user'> = ROOT,
) {
  const disks = [{ kind: 'file' as const, writes: true, hasBases: true, ...disk }];
  const { missing, troubles } = await lookAtFiles({ disks, others: [], directories: [], ...as });
  return [...missing.map(() => 'missing'), ...troubles.flatMap(([, found]) => found.map(({ code }) => code))];
}

test('a disk is there or missing, and is no directory', async (t) => {
  const directory = await directoryFor(t);
  await writeFile(join(directory, 'a'), 'x');
  assert.deepEqual(await codesOf({ path: join(directory, 'a') }), []);
  assert.deepEqual(await codesOf({ path: join(directory, 'b') }), ['missing']);
  assert.deepEqual(await codesOf({ path: join(directory, 'a/b') }), ['missing']);
  assert.deepEqual(await codesOf({ path: directory }), ['disk.no_file']);
});

test('QEMU qcow2.txt: bases are followed by the names that the images hold, until one is raw', async (t) => {
  const directory = await directoryFor(t);
  const at = (name: string) => join(directory, name);
  await writeFile(at('top'), overlay('middle', 'qcow2'));
  await writeFile(at('middle'), overlay(at('base')));
  assert.deepEqual(await codesOf({ path: at('top') }), ['disk.base_missing']);
  assert.deepEqual(await codesOf({ path: at('top'), hasBases: false }), []);
  await writeFile(at('base'), 'raw');
  assert.deepEqual(await codesOf({ path: at('top') }), []);
  // What is raw may hold anything.
  await writeFile(at('base'), overlay('nothing'));
  await writeFile(at('middle'), overlay('base', 'raw'));
  assert.deepEqual(await codesOf({ path: at('top') }), []);
  for (const elsewhere of ['nbd://192.0.2.1/a', 'json:{"driver":"nbd"}']) {
    await writeFile(at('top'), overlay(elsewhere));
    assert.deepEqual(await codesOf({ path: at('top') }), []);
  }
});

test('images that are based on themselves are followed to a bound', async (t) => {
  const directory = await directoryFor(t);
  await writeFile(join(directory, 'a'), overlay('a'));
  assert.deepEqual(await codesOf({ path: join(directory, 'a') }), []);
});

test('a mode with which not even its owner gets at a file is trouble, of others libvirt makes QEMU the owner', {
  skip: process.getuid?.() === 0 ? false : 'is not root',
}, async (t) => {
  const directory = await directoryFor(t);
  const path = join(directory, 'a');
  await writeFile(path, 'x');
  for (const [mode, writes, expected] of [
    [0o600, true, []],
    [0o400, false, []],
    [0o060, true, []],
    [0o006, true, []],
    [0o000, true, ['disk.unreadable']],
    [0o400, true, ['disk.unreadable']],
    [0o000, false, ['disk.unreadable']],
  ] as const) {
    await chmod(path, mode);
    assert.deepEqual(await codesOf({ path, writes }, NOBODY), expected, `${mode.toString(8)} ${writes}`);
    assert.deepEqual(await codesOf({ path, writes }, ROOT), []);
  }
  await mkdir(join(directory, 'shut'), { mode: 0o700 });
  await writeFile(join(directory, 'shut/a'), 'x');
  assert.deepEqual(await codesOf({ path: join(directory, 'shut/a') }, NOBODY), ['disk.unreadable']);
});

test('a command that is told to be typed holds a file’s name as one word, whatever is in it', async (t) => {
  const directory = join(await directoryFor(t), "$(reboot) 'x'");
  await mkdir(directory, { mode: 0o755 });
  const path = join(directory, 'a');
  await writeFile(path, 'x', { mode: 0o000 });
  const disks: DiskFile[] = [{ path, kind: 'file', writes: true, hasBases: false }];
  const remedy = async () =>
    (await lookAtFiles({ disks, others: [], directories: [], ...NOBODY })).troubles[0]?.[1][0]?.remedy;
  assert.equal(await remedy(), `chmod u+rw '${path.replaceAll("'", "'\\''")}'`);
  await chmod(directory, 0o700);
  assert.equal(await remedy(), `chmod o+x '${directory.replaceAll("'", "'\\''")}'`);
});
