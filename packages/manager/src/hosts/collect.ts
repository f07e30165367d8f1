import { getInventory } from '@virt-trust/contract/agent/operations.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';
import { requireHost } from './require-host.ts';

/** Reads a host's inventory and state anew and keeps them; what was declared stays as the administrator accepted it. */
export async function collect(hostName: string, context: HostsContext, signal: AbortSignal): Promise<Host> {
  const host = await requireHost(hostName, context);
  const channel = await context.channels.of(host);
  await channel.waitUntilUp(signal);
  const inventory = await channel.agent.call(getInventory, {}, { signal });
  return context.observing.refresh(host.id, channel, signal, (now) => ({ ...now, inventory }));
}
