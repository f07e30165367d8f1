import { readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runHostCommand } from './host/host-command.ts';
import type { CheckFinding } from './report.ts';

const ABSTRACTIONS = [
  '/etc/apparmor.d/abstractions/libvirt-qemu',
  '/etc/apparmor.d/local/abstractions/libvirt-qemu',
];

/** Whether AppArmor or SELinux let QEMU read its TLS directory, links followed. */
export async function checkConfinement(directory: string, file: string): Promise<CheckFinding[]> {
  const real = await realpath(join(directory, file)).catch(() => undefined);
  if (real === undefined) return [];
  const enabled = await readFile('/sys/module/apparmor/parameters/enabled', 'utf8').catch(() => '');
  if (enabled.trim() === 'Y') return checkAppArmor(directory, real);
  const selinux = await stat('/sys/fs/selinux/enforce').catch(() => undefined);
  return selinux === undefined ? [] : checkSelinux(real);
}

async function checkAppArmor(directory: string, real: string): Promise<CheckFinding[]> {
  const rules = (await Promise.all(ABSTRACTIONS.map((path) => readFile(path, 'utf8').catch(() => '')))).join(
    '\n',
  );
  if (allowsReading(rules, real)) return [];
  return [
    {
      severity: 'warning',
      code: 'confinement.apparmor',
      file: real,
      text: `no rule of AppArmor's for QEMU names this file: VMs that use ${directory} may fail to start`,
      remedy: `echo '${directory}/{,**} r,' >>${ABSTRACTIONS[1]}; running VMs: apparmor_parser -r /etc/apparmor.d/libvirt/libvirt-UUID`,
    },
  ];
}

/** Whether one of the rules that end in `r,` names the path; AppArmor's `*`, `**` and one level of braces. */
export function allowsReading(rules: string, path: string): boolean {
  return rules.split('\n').some((line) => {
    const glob = /^\s*(?:owner\s+)?(\/\S{1,500})\s+[a-z]*r[a-z]*,/.exec(line)?.[1];
    return glob !== undefined && globToRegExp(glob).test(path);
  });
}

function globToRegExp(glob: string): RegExp {
  const source = glob.replace(/\*\*|\*|\{|\}|,|[^*{},]+/g, (part) => {
    if (part === '**') return '.*';
    if (part === '*') return '[^/]*';
    if (part === '{') return '(?:';
    if (part === '}') return ')';
    if (part === ',') return '|';
    return part.replace(/[.+?^$()|[\]\\]/g, '\\$&');
  });
  try {
    return new RegExp(`^${source}$`);
  } catch {
    return /^(?!)/;
  }
}

async function checkSelinux(real: string): Promise<CheckFinding[]> {
  const { stdout } = await runHostCommand('stat', ['-c', '%C', '--', real]).catch(() => ({ stdout: '' }));
  const type = stdout.trim().split(':')[2];
  if (type === undefined || type === 'cert_t') return [];
  return [
    {
      severity: 'warning',
      code: 'confinement.selinux',
      file: real,
      text: `it has SELinux's type ${type.slice(0, 100)}, not cert_t: QEMU may not read it`,
      remedy: `semanage fcontext -a -t cert_t '${real}' && restorecon ${real}`,
    },
  ];
}
