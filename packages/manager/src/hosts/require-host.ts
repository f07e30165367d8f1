import { TrustError } from '@virt-trust/base/error.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';

/** The host of that name; throws `host.unmanaged` where it has no agent, and `host.unknown` where there is none. */
export async function requireHost(name: string, context: Pick<HostsContext, 'repository'>): Promise<Host> {
  const host = await context.repository.find(name);
  if (host !== null) return host;
  const address = await context.repository.unmanagedAddress(name);
  if (address !== null) throw unmanaged(name, address);
  throw new TrustError('host.unknown', 'not-found', `cannot find host ${name}: there is none of that name`, {
    hint: 'see them with: virt-trust host list',
  });
}

function unmanaged(name: string, address: string): TrustError {
  return new TrustError(
    'host.unmanaged',
    'conflict',
    `cannot do that on host ${name}: it is unmanaged, without an agent that would do it`,
    {
      hint: `take it under management: virt-trust host remove ${name}, then virt-trust host add ${name} --ssh root@${address}; as it is, VMs can migrate from and to it in the clear, and that is all`,
    },
  );
}
