import assert from 'node:assert/strict';
import { once } from 'node:events';
import { link, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryRoot } from '../fixtures.ts';
import { connectToQemu, makeSocketDirectory, migrationSockets, removeSocketDirectory } from './sockets.ts';

const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const ID = '00cc6257-5d60-4ebb-a478-444f0538f75e';

async function place(t: TestContext) {
  const root = await temporaryRoot(t);
  const sockets = migrationSockets(root, ID, 'web');
  await makeSocketDirectory(sockets, own);
  const listen = async (path: string) => {
    const server = createServer((socket) => socket.end('hello'));
    server.listen(path);
    await once(server, 'listening');
    t.after(() => server.close());
  };
  return { root, sockets, listen };
}

test('a stream reaches the socket that QEMU made', async (t) => {
  const { sockets, listen } = await place(t);
  await listen(sockets.stream);
  const socket = await connectToQemu(sockets.stream);
  const [bytes] = await once(socket, 'data');
  assert.equal(String(bytes), 'hello');
  socket.destroy();
});

test('a stream reaches no socket to which QEMU’s user only points', async (t) => {
  const { root, sockets, listen } = await place(t);
  const libvirt = join(root, 'libvirt-sock');
  await listen(libvirt);
  await symlink(libvirt, sockets.stream);
  await assert.rejects(connectToQemu(sockets.stream), { code: 'relay.no_socket' });
  await writeFile(sockets.disks, '');
  await assert.rejects(connectToQemu(sockets.disks), { code: 'relay.no_socket' });
});

test('a stream reaches no socket of another user’s that was linked into QEMU’s directory', {
  skip: own.uid === 0 ? false : 'only root may give a directory away',
}, async (t) => {
  const { root, sockets, listen } = await place(t);
  const libvirt = join(root, 'libvirt-sock');
  await listen(libvirt);
  await makeSocketDirectory(sockets, { uid: 64_055, gid: 64_055 });
  await link(libvirt, sockets.stream);
  await assert.rejects(connectToQemu(sockets.stream), { code: 'relay.no_socket' });
});

test('what QEMU’s user left in its directory goes with it, and nothing that it points to', async (t) => {
  const { root, sockets } = await place(t);
  const precious = join(root, 'etc');
  await mkdir(precious);
  await writeFile(join(precious, 'passwd'), 'root');
  await mkdir(join(sockets.directory, 'a/b'), { recursive: true });
  await writeFile(join(sockets.directory, 'a/b/file'), '');
  await symlink(precious, join(sockets.directory, 'link'));
  await symlink(precious, join(sockets.directory, 'a/link'));
  await removeSocketDirectory(sockets);
  await assert.rejects(stat(sockets.directory), { code: 'ENOENT' });
  assert.equal((await stat(join(precious, 'passwd'))).size, 4);
  await removeSocketDirectory(sockets);
});

test('a link in place of the directory is taken away, and nothing that it points to', async (t) => {
  const { root, sockets } = await place(t);
  await removeSocketDirectory(sockets);
  const precious = join(root, 'etc');
  await mkdir(precious);
  await writeFile(join(precious, 'passwd'), 'root');
  await symlink(precious, sockets.directory);
  await makeSocketDirectory(sockets, own);
  assert.equal((await stat(join(precious, 'passwd'))).size, 4);
  assert.equal((await stat(sockets.directory)).mode & 0o777, 0o700);
});
