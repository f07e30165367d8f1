import { mkdir, mkdtemp, readFile, rm, rmdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { hierarchies } from './cgroup.ts';
import { exec } from './command.ts';
import { machineOsRelease } from './os-release.ts';
import { CACHE_DIRECTORY, STATE_DIRECTORY } from './paths.ts';

/** Whether this machine can boot a lab, and if not, why: the end of "cannot boot the lab: ". */
export type LabCapability = { readonly kind: 'yes' } | { readonly kind: 'no'; readonly why: string };

const DISK_BYTES = 1.5 * 2 ** 30;
const MEMORY_BYTES = 0.75 * 2 ** 30;

// Tries in fresh namespaces what a lab does, so that nothing of the trial outlives it.
const TRIAL = `
set -eu
mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc /proc
echo done
`;

/** Looks and tries: root, Debian, disk, memory, namespaces, overlay mounts, control groups. */
export async function canBootLab(): Promise<LabCapability> {
  if (process.getuid?.() !== 0) return no('it takes root');
  const release = await machineOsRelease();
  if (release.id !== 'debian')
    return no(`it takes Debian, this is ${release.prettyName || 'something unknown'}`);
  for (const directory of [CACHE_DIRECTORY, STATE_DIRECTORY]) {
    try {
      await mkdir(directory, { recursive: true, mode: directory === STATE_DIRECTORY ? 0o700 : 0o755 });
      const { bavail, bsize } = await statfs(directory);
      if (bavail * bsize < DISK_BYTES) return no(`${directory} has less than 1.5 GB free`);
    } catch (error) {
      return no(`${directory} cannot be used: ${error instanceof Error ? error.message : error}`);
    }
  }
  const memory = availableMemory(await readFile('/proc/meminfo', 'utf8'));
  if (memory < MEMORY_BYTES) return no(`less than 750 MB of memory are free`);
  if ((await hierarchies()).length === 0) return no('no control groups are mounted that systemd could use');
  return tryNamespaces();
}

/** MemAvailable in bytes, from the text of proc_meminfo(5); 0 where it is not given. */
export function availableMemory(meminfo: string): number {
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1] ?? 0) * 1024;
}

async function tryNamespaces(): Promise<LabCapability> {
  const directory = await mkdtemp(join(STATE_DIRECTORY, '.trial-'));
  const groups = (await hierarchies()).map((hierarchy) =>
    join(hierarchy, `virt-trust-lab-trial-${process.pid}`),
  );
  try {
    for (const group of groups) await mkdir(group);
    for (const name of ['lower', 'upper', 'work', 'root']) await mkdir(join(directory, name));
    const namespaces = ['--mount', '--net', '--uts', '--ipc', '--pid', '--fork', '--propagation', 'private'];
    const trial = await exec(['unshare', ...namespaces, 'sh', '-c', TRIAL, 'sh', directory], {
      timeout: 120_000,
    });
    if (trial.code === 0) return { kind: 'yes' };
    return no(
      `namespaces and overlay mounts are not allowed here (${trial.stderr.trim() || `exit code ${trial.code}`})`,
    );
  } catch (error) {
    return no(
      `control groups and namespaces are not allowed here (${error instanceof Error ? error.message : error})`,
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
    for (const group of groups) await rmdir(group).catch(() => {});
  }
}

function no(why: string): LabCapability {
  return { kind: 'no', why };
}
