import { readFile, stat } from 'node:fs/promises';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { AgentPaths } from '../state/paths.ts';

/** The security module that confines QEMU on the host. */
export async function readLsm(paths: AgentPaths): Promise<Inventory['lsm']> {
  const apparmor = await readFile(paths.at('/sys/module/apparmor/parameters/enabled'), 'utf8').catch(
    () => '',
  );
  if (apparmor.trim() === 'Y') return 'apparmor';
  const selinux = await stat(paths.at('/sys/fs/selinux/enforce')).catch(() => undefined);
  return selinux === undefined ? 'none' : 'selinux';
}
