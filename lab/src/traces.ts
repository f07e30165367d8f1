import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hierarchies } from './cgroup.ts';
import { planHosts } from './host-plan.ts';
import { planNetworks } from './network-plan.ts';
import { labDirectory } from './paths.ts';
import type { LabRecord } from './record.ts';

/** Everything that the machine still has of a lab, except the directory of its disks. */
export async function traces(record: LabRecord): Promise<string[]> {
  const hosts = planHosts(record);
  const names = new Set([
    ...planNetworks(record.index, record.networks).map((network) => network.bridge),
    ...hosts.flatMap((host) => [host.namespace, ...host.interfaces.map((card) => card.peer)]),
  ]);
  const found: string[] = [];
  for (const directory of ['/sys/class/net', '/run/netns', '/run/systemd/nspawn/propagate'])
    for (const entry of await entries(directory)) if (names.has(entry)) found.push(join(directory, entry));
  for (const hierarchy of await hierarchies())
    for (const host of await entries(join(hierarchy, 'virt-trust-lab', record.name)))
      if (record.hosts.includes(host)) found.push(join(hierarchy, 'virt-trust-lab', record.name, host));
  for (const pid of (await entries('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const mounts = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '');
    if (!mounts.includes(`${labDirectory(record.name)}/`)) continue;
    found.push(
      `process ${pid} ${(await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')}`,
    );
  }
  return found;
}

function entries(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
