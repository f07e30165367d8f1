import { TrustError } from '@virt-trust/base/error.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { Handlers } from '../handlers.ts';
import { managerOpenApi } from '../openapi.ts';

/** What a manager says of itself. */
interface Self {
  readonly version: string;
  readonly metrics: Metrics;
  /** Aborted when it stops. */
  readonly signal: AbortSignal;
}

/** Health, readiness, figures, the API's own document and who asks. */
export function systemHandlers(
  self: Self,
  ready: () => Promise<void>,
): Pick<Handlers, 'getHealth' | 'getReady' | 'getMetrics' | 'getOpenApi' | 'getWhoAmI'> {
  const document = managerOpenApi(self.version);
  return {
    getHealth: async () => 'ok\n',
    getReady: async () => {
      if (self.signal.aborted)
        throw new TrustError('manager.stopping', 'unavailable', 'cannot serve: the manager stops');
      await ready();
      return 'ready\n';
    },
    getMetrics: () => self.metrics.render(),
    getOpenApi: async () => document,
    getWhoAmI: async ({ actor }) => ({ name: actor.name, role: actor.role, version: self.version }),
  };
}
