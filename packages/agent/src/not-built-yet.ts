import { TrustError } from '@virt-trust/base/error.ts';
import type { Arrivals } from './ports.ts';

const refuse = (): never => {
  throw new TrustError('agent.not_built', 'internal', 'cannot do this yet');
};

/** Stands in until the parts are there. */
export const NOT_BUILT: {
  readonly arrivals: Arrivals;
} = {
  arrivals: {
    start: async () => {},
    create: refuse,
    end: refuse,
    release: async () => {},
    close: async () => {},
  },
};
