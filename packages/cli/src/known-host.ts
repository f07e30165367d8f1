import { getHost } from '@virt-trust/contract/manager/host-operations.ts';
import type { ManagerClient } from './manager-client.ts';

/** Throws `host.unknown` where a list is empty because there is no host of that name; what was removed may have left something. */
export async function requireKnownHost(
  client: ManagerClient,
  host: string | undefined,
  items: readonly unknown[],
): Promise<void> {
  if (host !== undefined && items.length === 0) await client.call(getHost, { params: { name: host } });
}
