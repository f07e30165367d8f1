import { readdir, readFile } from 'node:fs/promises';
import { run } from '../src/command.ts';
import { planHosts } from '../src/host-plan.ts';
import { planNetworks } from '../src/network-plan.ts';
import { labDirectory } from '../src/paths.ts';
import type { LabRecord } from '../src/record.ts';

/** Everything that the machine still has of a lab, except the directory of its disks. */
export async function traces(record: LabRecord): Promise<string[]> {
  const hosts = planHosts(record);
  const names = [
    ...planNetworks(record.index, record.networks).map((network) => network.bridge),
    ...hosts.flatMap((host) => [host.namespace, ...host.interfaces.map((card) => card.peer)]),
  ];
  const found: string[] = [];
  for (const directory of ['/sys/class/net', '/run/netns', '/run/systemd/nspawn/propagate']) {
    for (const entry of await readdir(directory).catch((): string[] => [])) {
      if (names.includes(entry)) found.push(`${directory}/${entry}`);
    }
  }
  const groups = await run(['find', '/sys/fs/cgroup', '-path', `*/virt-trust-lab/${record.name}*`]);
  found.push(...groups.split('\n').filter(Boolean));
  const directory = labDirectory(record.name);
  for (const pid of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    // A zombie holds nothing and goes when its parent looks.
    if (status === '' || /^State:\tZ/m.test(status)) continue;
    const mounts = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '');
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (mounts.includes(`${directory}/`) || command.includes(`${directory}/`))
      found.push(`process ${pid} ${command}`);
  }
  return found;
}
