import { TrustError } from '@virt-trust/base/error.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';

/** The host of that name; throws `host.unknown`. */
export async function requireHost(name: string, context: Pick<HostsContext, 'repository'>): Promise<Host> {
  const host = await context.repository.find(name);
  if (host === null) {
    throw new TrustError(
      'host.unknown',
      'not-found',
      `cannot find host ${name}: there is none of that name`,
      { hint: 'see them with: virt-trust host list' },
    );
  }
  return host;
}
