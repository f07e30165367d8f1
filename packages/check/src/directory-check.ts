import type { Instant } from '@virt-trust/base/instant.ts';
import type { TlsRole } from '@virt-trust/libvirt/certificate-use.ts';
import { isTriedVersion } from '@virt-trust/libvirt/checker.ts';
import { checkPath, type PathReport } from './path-check.ts';
import { readQemuUser } from './qemu-user.ts';
import { installedVersion } from './versions.ts';

/** The versions that are assumed where none is given and none installed: Debian 12's, against which the rules were held. */
const ASSUMED = { libvirt: '9.0.0', qemu: '7.2.22' } as const;

/** A directory's report, with whose rules were taken and why. */
export interface DirectoryReport extends PathReport {
  readonly notes: readonly string[];
}

/** `check --path`: a directory alone, by the versions given, or installed, or else assumed. */
export async function checkDirectory(options: {
  readonly directory: string;
  readonly role: TlsRole;
  readonly at: Instant;
  readonly peer?: string | undefined;
  readonly name?: string | undefined;
  readonly libvirt?: string | undefined;
  readonly qemu?: string | undefined;
}): Promise<DirectoryReport> {
  const notes: string[] = [];
  const versionOf = async (program: 'libvirt' | 'qemu'): Promise<string> => {
    const given = options[program];
    if (given !== undefined) return given;
    return (await installedVersion(program)) ?? ASSUMED[program];
  };
  const [libvirt, qemu, qemuUser] = await Promise.all([
    versionOf('libvirt'),
    versionOf('qemu'),
    readQemuUser(),
  ]);
  const program = options.libvirt === undefined && options.qemu !== undefined ? 'qemu' : undefined;
  const report = await checkPath({ ...options, libvirt, qemu, program, qemuUser });
  if (options.peer !== undefined && options.name === undefined && options.role === 'client')
    notes.push('no --name was given: whether the certificate is for the host that is reached was not judged');
  if (options.name !== undefined && options.role === 'server')
    notes.push('a server compares no names of its clients: --name counts for nothing');
  for (const checker of report.judgedBy) {
    const { program: whose, version } = checker;
    const title = whose === 'libvirt' ? 'libvirt' : 'QEMU';
    const installed = options[whose] === undefined && (await installedVersion(whose)) !== undefined;
    const how =
      options[whose] !== undefined
        ? ''
        : installed
          ? ', which is installed here'
          : ', assumed as none is installed here';
    const tried = isTriedVersion(checker) ? '' : '; its rules are from its source and were not tried';
    notes.push(`judged by the rules of ${title} ${version}${how}${tried}`);
  }
  return { ...report, notes };
}
