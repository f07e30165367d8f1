import { stat } from 'node:fs/promises';
import { dirname, sep } from 'node:path';
import { shellWord } from '@virt-trust/base/shell-word.ts';
import { mayEnter, type ReadingUser } from './reader.ts';
import type { CheckFinding } from './report.ts';

/** Keys that others may read, and that belong to others. */
export async function checkKeyMode(path: string, owners: readonly number[]): Promise<CheckFinding[]> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || !found.isFile()) return [];
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  const findings: CheckFinding[] = [];
  if ((found.mode & 0o007) === 0 && (found.mode & 0o077) !== 0 && found.gid !== 0 && owners.length === 1) {
    findings.push({
      severity: 'note',
      code: 'key.group',
      file: path,
      text: `group ${found.gid} may use the private key (mode ${mode}), which its daemon does not need`,
      remedy: `chmod 0600 ${shellWord(path)}`,
    });
  }
  if ((found.mode & 0o007) !== 0) {
    findings.push({
      severity: 'warning',
      code: 'key.exposed',
      file: path,
      text: `every user of this host may use the private key (mode ${mode})`,
      remedy: `chmod o-rwx ${shellWord(path)}`,
    });
  }
  if (!owners.includes(found.uid)) {
    findings.push({
      severity: 'warning',
      code: 'key.owner',
      file: path,
      text: `the private key belongs to user ${found.uid}, who can replace it`,
      remedy: `chown root ${shellWord(path)}`,
    });
  }
  return findings;
}

/** The directories on the way to a file through which its reader may not pass. */
export async function checkWay(path: string, user: ReadingUser | undefined): Promise<CheckFinding[]> {
  if (user === undefined) return [];
  const parts = dirname(path).split(sep).filter(Boolean);
  for (let count = 1; count <= parts.length; count++) {
    const directory = sep + parts.slice(0, count).join(sep);
    const found = await stat(directory).catch(() => undefined);
    if (found === undefined) return [];
    if (mayEnter(found, user)) continue;
    const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
    return [
      {
        severity: 'error',
        code: 'directory.unreadable',
        file: directory,
        text: `${user.name} may not pass through the directory (mode ${mode}), so nothing below it is read`,
        remedy: `chmod o+x ${shellWord(directory)}`,
      },
    ];
  }
  return [];
}

/** Directories of libvirt's own that are missing, or that users may not look into. */
export async function checkPkiDirectories(): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = [];
  for (const directory of ['/etc/pki', '/etc/pki/CA', '/etc/pki/libvirt', '/etc/pki/libvirt/private']) {
    const found = await stat(directory).catch(() => undefined);
    const isPrivate = directory.endsWith('private');
    if (found === undefined || !found.isDirectory()) {
      findings.push({
        severity: 'note',
        code: 'directory.missing',
        file: directory,
        text: 'there is no such directory, in which libvirt looks by default',
        remedy: isPrivate
          ? `install -d -m 0750 ${directory}`
          : `install -d -m 0755 ${directory}, and in it what else libvirt looks for: CA, libvirt, libvirt/private`,
      });
      // Nor is there anything below it.
      if (directory === '/etc/pki' || directory === '/etc/pki/libvirt') break;
    } else if (!isPrivate && (found.mode & 0o005) !== 0o005) {
      findings.push({
        severity: 'note',
        code: 'directory.closed',
        file: directory,
        text: 'users other than root may not look into it: their libvirt clients find no CA there',
        remedy: `chmod 0755 ${directory}`,
      });
    }
  }
  return findings;
}
