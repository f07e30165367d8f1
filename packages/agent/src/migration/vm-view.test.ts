import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { FakeLibvirt, VM, VM_UUID } from '../conduct/fixture-libvirt.ts';
import { agentPaths } from '../state/paths.ts';
import { libvirtVms } from './vm-view.ts';

const OFF = { name: 'off', uuid: 'aaaaaaaa-2222-4333-8444-555555555555', id: -1 };
const STRANGE = { name: '-x', uuid: 'bbbbbbbb-2222-4333-8444-555555555555', id: -1 };

it('lists the VMs of this host with their UUIDs, those that are off besides, and none that cannot be named', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'vt-vms-'));
  const libvirt = new FakeLibvirt([1, 1]);
  let asked: unknown;
  libvirt.answers['CONNECT_LIST_ALL_DOMAINS'] = (args: { needResults: number; flags: number }) => {
    asked = args;
    return { domains: [VM, OFF, STRANGE], count: 3 };
  };
  const server = createServer((socket) => {
    const inner = libvirt.connect();
    socket.pipe(inner).pipe(socket);
    socket.once('close', () => inner.destroy());
  });
  t.after(async () => {
    server.close();
    await rm(root, { recursive: true, force: true });
  });
  await mkdir(join(root, 'run/libvirt'), { recursive: true });
  await new Promise<void>((resolve) => server.listen(join(root, 'run/libvirt/libvirt-sock'), resolve));
  const vms = await libvirtVms(agentPaths(root), systemClock).list(undefined);
  // Neither running ones alone nor their number alone.
  assert.deepEqual(asked, { needResults: 1, flags: 0 });
  assert.deepEqual(vms, [
    { uuid: VM_UUID, name: 'vm', active: true },
    { uuid: OFF.uuid, name: 'off', active: false },
  ]);
});
