import { access, mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { HostCgroup } from '../src/cgroup.ts';
import type { Host } from '../src/host.ts';

const HIERARCHY = '/sys/fs/cgroup/cpuset';
const placeOf = ({ plan }: Host) => `${HIERARCHY}/virt-trust-lab-${plan.lab}-${plan.name}`;

/** Whether CPUs can be taken from a host here: more than one, and the hierarchy of cpuset(7) in which to do it. */
export async function canTakeCpus(): Promise<boolean> {
  if (availableParallelism() < 2) return false;
  return access(`${HIERARCHY}/cpuset.cpus`).then(
    () => true,
    () => false,
  );
}

/** Leaves libvirtd of a host, and whatever it starts, CPU 0 alone; by its next start it has all again. */
export async function leaveFirstCpu(host: Host): Promise<void> {
  const place = placeOf(host);
  await mkdir(place, { recursive: true });
  await writeFile(`${place}/cpuset.cpus`, '0');
  await writeFile(`${place}/cpuset.mems`, await readFile(`${HIERARCHY}/cpuset.mems`, 'utf8'));
  for (const pid of await new HostCgroup(host.plan.lab, host.plan.name).processes()) {
    const program = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    if (program.trim() === 'libvirtd') await writeFile(`${place}/cgroup.procs`, String(pid));
  }
}

/** Whatever is left there has all CPUs again. */
export async function giveCpusBack(host: Host): Promise<void> {
  const place = placeOf(host);
  const left = await readFile(`${place}/cgroup.procs`, 'utf8').catch(() => undefined);
  if (left === undefined) return;
  for (const pid of left.split('\n').filter(Boolean))
    await writeFile(`${HIERARCHY}/cgroup.procs`, pid).catch(() => {
      // It has ended.
    });
  await rmdir(place).catch((cause: unknown) => {
    throw new Error(`cannot remove ${basename(place)}`, { cause });
  });
}
