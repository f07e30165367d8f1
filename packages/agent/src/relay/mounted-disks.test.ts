import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryRoot } from '../fixtures.ts';
import { mountedDisks } from './mounted-disks.ts';

/** sda has a root file system, sdb a partition of LVM, sdc is swap, sde of a file system of several disks, sdd a VM's. */
const NUMBERS = {
  ...{ sda: '8:0', sda1: '8:1', sdb: '8:16', sdb1: '8:17', sdc: '8:32', sdd: '8:48', sde: '8:64' },
  ...{ 'dm-0': '253:0', 'dm-1': '253:1', 'dm-2': '253:2' },
};

async function host(t: TestContext) {
  const root = await temporaryRoot(t);
  const files: readonly (readonly [string, string])[] = [
    [
      '/proc/1/mountinfo',
      '25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n26 25 253:0 / /srv rw - xfs /dev/mapper/vg-root rw\n27 25 0:31 / /data rw - btrfs /dev/sde rw\n',
    ],
    ['/proc/swaps', 'Filename Type Size Used Priority\n/dev/sdc partition 1 0 -2\n/swapfile file 1 0 -3\n'],
    ...Object.entries(NUMBERS).map(
      ([name, number]) => [`/sys/class/block/${name}/dev`, `${number}\n`] as const,
    ),
    ['/sys/class/block/dm-0/dm/name', 'vg-root\n'],
    ['/run/udev/data/b8:0', 'I:1\nS:disk/by-id/disk-a\nE:ID_BUS=ata\n'],
    ['/run/udev/data/b253:0', 'S:vg/root\n'],
    ['/run/udev/data/b253:1', 'S:vg/vm\n'],
    ['/sys/dev/block/8:0/sda1/partition', '1\n'],
    ['/sys/dev/block/8:0/sda1/dev', '8:1\n'],
    ['/sys/dev/block/8:0/queue/dev', '8:9\n'],
    ['/sys/dev/block/8:16/sdb1/partition', '1\n'],
    ['/sys/dev/block/8:16/sdb1/dev', '8:17\n'],
    ['/sys/dev/block/8:17/holders/dm-0/dev', '253:0\n'],
    ['/sys/dev/block/8:17/holders/dm-1/dev', '253:1\n'],
    ['/sys/dev/block/8:48/holders/dm-2/dev', '253:2\n'],
    // What stands on itself, which no host has, ends too.
    ['/sys/dev/block/253:2/holders/sdd/dev', '8:48\n'],
  ];
  for (const [path, text] of files) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  await mkdir(join(root, 'mnt'));
  await symlink('../dev/sda1', join(root, 'mnt/link-to-sda1'));
  await symlink('link-to-sda1', join(root, 'mnt/link'));
  return (...paths: string[]) => mountedDisks(paths, (path) => join(root, path));
}

test('a disk that the host has mounted is found by each of its names, as a whole and by what stands on it', async (t) => {
  const look = await host(t);
  const mounted = [
    '/dev/sda',
    '/dev/sda1',
    '/dev/disk/by-id/disk-a',
    '/mnt/link',
    '/dev/block/8:1',
    '/dev/mapper/vg-root',
    '/dev/sdb',
    '/dev/vg/root',
    '/dev/sdc',
    '/dev/sde',
  ];
  for (const path of mounted) assert.deepEqual(await look(path), [path]);
  assert.deepEqual(await look(...mounted), mounted);
});

test('a disk that is none of the host’s own is not, nor is a file', async (t) => {
  const look = await host(t);
  assert.deepEqual(await look('/dev/vg/vm', '/dev/sdd', '/dev/sdx', '/var/lib/libvirt/images/web.qcow2'), []);
});
