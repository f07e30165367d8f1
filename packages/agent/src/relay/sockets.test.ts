import assert from 'node:assert/strict';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryRoot } from '../fixtures.ts';
import { makeSocketDirectory, migrationSockets, removeSocketDirectory, unixUri } from './sockets.ts';

const ID = '01234567-89ab-4cde-8f01-23456789abcd';

test('sockets are named as AppArmor’s profile of the VM permits, where the name leaves room', () => {
  assert.deepEqual(migrationSockets('/', ID, 'web'), {
    directory: '/run/libvirt/qemu/virt-trust-0123456789ab',
    stream: '/run/libvirt/qemu/virt-trust-0123456789ab/m.tunnelmigrate.dest.web',
    disks: '/run/libvirt/qemu/virt-trust-0123456789ab/d.tunnelmigrate.dest.web',
  });
  for (const [name, permitted] of [
    ['x'.repeat(44), true],
    ['x'.repeat(45), false],
    // 22 characters, 44 bytes and 23 characters, 46 bytes.
    ['é'.repeat(22), true],
    ['é'.repeat(23), false],
  ] as const) {
    const { stream } = migrationSockets('/', ID, name);
    assert.equal(stream.endsWith(`.dest.${name}`), permitted);
    assert.ok(Buffer.byteLength(stream) <= 107);
  }
});

test('a URI has the path as libvirt decodes it', () => {
  const path = '/run/libvirt/qemu/virt-trust-0/m.tunnelmigrate.dest.a b%20?#é';
  const uri = unixUri(path);
  assert.equal(uri, 'unix:///run/libvirt/qemu/virt-trust-0/m.tunnelmigrate.dest.a%20b%2520%3F%23%C3%A9');
  assert.equal(decodeURIComponent(new URL(uri).pathname), path);
});

test('the directory is made anew, closed to others, and goes with what is in it', async (t) => {
  const sockets = migrationSockets(await temporaryRoot(t), ID, 'web');
  await mkdir(sockets.directory, { recursive: true, mode: 0o777 });
  await writeFile(join(sockets.directory, 'left'), '');
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  await makeSocketDirectory(sockets, own);
  assert.equal((await stat(sockets.directory)).mode & 0o777, 0o700);
  await assert.rejects(stat(join(sockets.directory, 'left')), { code: 'ENOENT' });
  await makeSocketDirectory(sockets, 'root');
  assert.equal((await stat(sockets.directory)).mode & 0o777, 0o711);
  await removeSocketDirectory(sockets);
  await assert.rejects(stat(sockets.directory), { code: 'ENOENT' });
});
