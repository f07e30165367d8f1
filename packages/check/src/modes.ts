import { stat } from 'node:fs/promises';
import { dirname, sep } from 'node:path';
import { mayEnter, type ReadingUser } from './reader.ts';
import type { CheckFinding } from './report.ts';

/** Keys that others may read, and that belong to others. */
export async function checkKeyMode(path: string, owners: readonly number[]): Promise<CheckFinding[]> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || !found.isFile()) return [];
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  const findings: CheckFinding[] = [];
  if ((found.mode & 0o007) !== 0) {
    findings.push({
      severity: 'warning',
      code: 'key.exposed',
      file: path,
      text: `every user of this host may use the private key (mode ${mode})`,
      remedy: `chmod o-rwx ${path}`,
    });
  }
  if (!owners.includes(found.uid)) {
    findings.push({
      severity: 'warning',
      code: 'key.owner',
      file: path,
      text: `the private key belongs to user ${found.uid}, who can replace it`,
      remedy: `chown root ${path}`,
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
        remedy: `chmod o+x ${directory}`,
      },
    ];
  }
  return [];
}
