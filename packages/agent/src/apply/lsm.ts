import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunHostCommand, which } from '@virt-trust/check/host/host-command.ts';
import { readLsm } from '../inventory/lsm.ts';
import { readFileIfPresent, removeFile, writeFileAtomic } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';

const ABSTRACTION = '/etc/apparmor.d/local/abstractions/libvirt-qemu';
const PROFILES = '/etc/apparmor.d/libvirt';
const BEGIN = '# virt-trust: begin';
const END = '# virt-trust: end';
const RULES = `${BEGIN}
/var/lib/virt-trust/services/{migration,vnc,spice,nbd,backup}/** r,
/etc/pki/libvirt-{migrate,nbd,backup}/{,**} r,
${END}
`;
const LOAD_MS = 120_000;
const SELINUX_PATHS = '/var/lib/virt-trust/services(/.*)?';

/** Lets QEMU processes that a security module confines read the generations, running ones included. */
export async function permitReading(paths: AgentPaths, run: RunHostCommand): Promise<void> {
  switch (await readLsm(paths)) {
    case 'none':
      return;
    case 'apparmor':
      return await setRules(paths, run, RULES);
    case 'selinux':
      return await labelFiles(run, 'add');
  }
}

/** Takes back what `permitReading` did. */
export async function forbidReading(paths: AgentPaths, run: RunHostCommand): Promise<void> {
  switch (await readLsm(paths)) {
    case 'none':
      return;
    case 'apparmor':
      return await setRules(paths, run, '');
    case 'selinux':
      return await labelFiles(run, 'delete');
  }
}

/** The text of the local snippet with our rules, or without them; what others wrote stays. */
export function withRules(text: string, rules: string): string {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  const without = begin < 0 || end < begin ? text : text.slice(0, begin) + text.slice(end + END.length + 1);
  const separator = without === '' || without.endsWith('\n') || rules === '' ? '' : '\n';
  return `${without}${separator}${rules}`;
}

async function setRules(paths: AgentPaths, run: RunHostCommand, rules: string): Promise<void> {
  const path = paths.at(ABSTRACTION);
  const before = (await readFileIfPresent(path))?.toString('utf8');
  const after = withRules(before ?? '', rules);
  if (after === (before ?? '')) return;
  await mkdir(paths.at('/etc/apparmor.d/local/abstractions'), { recursive: true, mode: 0o755 });
  if (after === '') await removeFile(path);
  else await writeFileAtomic(path, after, { mode: 0o644 });
  await reloadProfiles(paths, run);
}

/** Profiles are read when a VM starts; that of a running one has to be loaded again. */
async function reloadProfiles(paths: AgentPaths, run: RunHostCommand): Promise<void> {
  const names = await readdir(paths.at(PROFILES)).catch(() => []);
  const profiles = names.filter((name) => /^libvirt-[0-9a-f-]{36}$/.test(name));
  for (const name of profiles)
    await run('apparmor_parser', ['-r', join(PROFILES, name)], { timeoutMs: LOAD_MS, acceptedCodes: [1] });
}

async function labelFiles(run: RunHostCommand, action: 'add' | 'delete'): Promise<void> {
  if ((await which('semanage')) === undefined) return;
  const args = action === 'add' ? ['-a', '-t', 'cert_t', SELINUX_PATHS] : ['-d', SELINUX_PATHS];
  // Exit code 1: the rule is there already, or gone.
  await run('semanage', ['fcontext', ...args], { timeoutMs: LOAD_MS, acceptedCodes: [1] });
  await run('restorecon', ['-R', '/var/lib/virt-trust/services'], {
    timeoutMs: LOAD_MS,
    acceptedCodes: [1, 255],
  });
}
