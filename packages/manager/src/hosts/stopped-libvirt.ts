import { shellWord } from '@virt-trust/base/shell-word.ts';
import type { Host } from './host.ts';

/**
 * What starts libvirt on a host whose agent saw that nobody answers there, and brings back its TLS; null where libvirt
 * answers, or nobody has looked. Provisioning alone starts no daemon that somebody stopped.
 */
export function startsLibvirt(
  host: Pick<Host, 'name' | 'ssh' | 'observed' | 'observeOnly' | 'inventory'>,
): string | null {
  const seen = host.observed?.capabilities ?? null;
  if (seen === null || host.observeOnly || seen.pinned || seen.libvirtTls !== null) return null;
  const units = host.inventory?.libvirt?.daemonMode === 'modular' ? 'virtqemud virtproxyd' : 'libvirtd';
  const { destination } = host.ssh;
  const root = /^root@/.test(destination) ? '' : 'sudo ';
  return `ssh ${shellWord(destination)} ${root}systemctl start ${units} && virt-trust host provision ${host.name}`;
}
