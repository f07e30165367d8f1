import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './command.ts';
import type { Host } from './host.ts';

const MIB = 1024 * 1024;

/**
 * Gives hosts one file system in common, as a SAN or NFS would, with locks that hold between them: a file of the machine
 * as a block device, which the kernel mounts once however often it is mounted. It goes with the last host.
 */
export async function shareDirectory(hosts: readonly Host[], path: string, sizeMiB: number): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'vt-shared-'));
  try {
    const image = join(directory, 'image');
    await writeFile(image, '');
    await truncate(image, sizeMiB * MIB);
    await run(['mkfs.ext4', '-q', '-F', image]);
    const device = (await run(['losetup', '--find', '--show', image])).trim();
    const number = /^\/dev\/loop(\d+)$/.exec(device)?.[1] ?? '';
    try {
      for (const host of hosts)
        await host.run([
          'sh',
          '-c',
          'set -e; test -b "$1" || mknod "$1" b 7 "$2"; mkdir -p "$3"; mount -t ext4 "$1" "$3"; chmod 0711 "$3"',
          'sh',
          device,
          number,
          path,
        ]);
    } finally {
      // The kernel lets it go once nobody has it mounted.
      await run(['losetup', '--detach', device]);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
