import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import type { PreflightReport } from '@virt-trust/contract/model/preflight.ts';
import type { DiskFile, FilesQuestion, FilesSeen } from './host-files.ts';
import type { LibvirtQuestions } from './libvirt-questions.ts';
import type { SourceVm } from './source-checks.ts';
import { type VmNeeds, vmNeedsOf } from './vm-needs.ts';

/** File systems that other hosts may have, too, as virFileIsSharedFS of libvirt 9.0 takes them (statfs(2), f_type). */
const SHARED_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0x6969, // NFS
  0x01161970, // GFS2
  0x7461636f, // OCFS2
  0x5346414f, // AFS
  0x517b, // SMB
  0xff534d42, // CIFS
  0xfe534d42, // SMB2
  0x00c36400, // CephFS
  0x47504653, // GPFS
  0x61636673, // ACFS
  0x65735546, // FUSE: GlusterFS, Quobyte and the like
  0x19830326, // BeeGFS
  0x51626d6e, // Quobyte
]);

/** A VM on the host that it leaves; null where it is not there. */
export async function readSourceVm(
  vm: string,
  options: Pick<MigrationOptions, 'offline'>,
  libvirt: LibvirtQuestions,
  files: (question: FilesQuestion) => Promise<FilesSeen>,
): Promise<{ readonly seen: SourceVm; readonly report: NonNullable<PreflightReport['vm']> } | null> {
  // A name may be the ID or the UUID of another VM, which virsh would take first.
  const uuid = [...(await libvirt.vms('--all'))].find(([, name]) => name === vm.trim())?.[0];
  if (uuid === undefined) return null;
  const state = (await libvirt.tryAsk(['domstate', '--domain', uuid]))?.trim();
  if (state === undefined) return null;
  // What is sent: secrets are no part of it, and nothing here looks at them.
  const xml = await libvirt.ask([
    'dumpxml',
    '--domain',
    uuid,
    '--migratable',
    ...(options.offline && state === 'shut off' ? ['--inactive'] : []),
  ]);
  const needs = vmNeedsOf(xml);
  const [snapshots, job, disks, sharedPaths] = await Promise.all([
    libvirt.lines(['snapshot-list', '--domain', uuid, '--name']),
    state === 'shut off' ? undefined : libvirt.tryAsk(['domjobinfo', '--domain', uuid]),
    libvirt.tryAsk(['domblkinfo', '--domain', uuid, '--all']),
    readSharedPaths(needs, files),
  ]);
  return {
    seen: {
      needs,
      state,
      snapshots: snapshots.length,
      busy: /^Job type:\s+(?!None\b)\S/m.test(job ?? ''),
      sharedPaths,
    },
    report: { uuid: needs.uuid, state, xml, disks: parseBlockInfo(disks ?? '') },
  };
}

/** Reads `virsh domblkinfo --all`: target, capacity, allocation, physical size. */
export function parseBlockInfo(output: string): NonNullable<PreflightReport['vm']>['disks'] {
  return output.split('\n').flatMap((line) => {
    const [, target, capacity, allocation] =
      /^\s*(\S{1,32})\s+(\d{1,15})\s+(\d{1,15})\s+\d{1,15}\s*$/.exec(line) ?? [];
    if (target === undefined) return [];
    return [{ target, capacityBytes: Number(capacity), allocatedBytes: Number(allocation) }];
  });
}

async function readSharedPaths(
  { disks }: VmNeeds,
  files: (question: FilesQuestion) => Promise<FilesSeen>,
): Promise<Set<string>> {
  const found = disks.flatMap(({ path, kind }): DiskFile[] =>
    path === null || kind !== 'file' ? [] : [{ path, kind, writes: false, hasBases: false }],
  );
  const none = { others: [], directories: [], reader: null, user: null };
  const { systems } = await files({ disks: found, ...none });
  return new Set(systems.flatMap(([path, system]) => (SHARED_FILE_SYSTEMS.has(system) ? [path] : [])));
}
