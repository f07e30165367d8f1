import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';

type Listener = NonNullable<HostCapabilities['libvirtTls']>;

/** Whether libvirt listens for others than its own host, as that host's agent saw it. */
export function listensForOthers<L extends Listener>(listener: L | null): listener is L {
  if (listener === null) return false;
  const { addresses } = listener;
  return addresses.length === 0 || !addresses.every((address) => /^(?:127\.|::1$)/.test(address));
}
