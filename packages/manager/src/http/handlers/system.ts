import { TrustError } from '@virt-trust/base/error.ts';
import type { Core } from '../../core.ts';
import type { Handlers } from '../handlers.ts';
import { managerOpenApi } from '../openapi.ts';

/** Health, readiness, figures, the API's own document and who asks. */
export function systemHandlers(
  core: Core,
  ready: () => Promise<void>,
): Pick<Handlers, 'getHealth' | 'getReady' | 'getMetrics' | 'getOpenApi' | 'getWhoAmI'> {
  const document = managerOpenApi(core.version);
  return {
    getHealth: async () => 'ok\n',
    getReady: async () => {
      if (core.signal.aborted)
        throw new TrustError('manager.stopping', 'unavailable', 'cannot serve: the manager stops');
      await ready();
      return 'ready\n';
    },
    getMetrics: () => core.metrics.render(),
    getOpenApi: async () => document,
    getWhoAmI: async ({ actor }) => ({ name: actor.name, role: actor.role, version: core.version }),
  };
}
