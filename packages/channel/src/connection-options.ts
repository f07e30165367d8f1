import { type Randomness, systemRandomness } from '@virt-trust/base/randomness.ts';
import type { BackOff } from './backoff.ts';
import type { DialOptions } from './dial.ts';
import type { ChannelIdentity } from './identity.ts';
import { type Sleep, systemSleep } from './sleep.ts';

/** Where to dial and who is who; what `replace` can change. */
export type ChannelTarget = Pick<DialOptions, 'identity' | 'trustedAgentPins' | 'host' | 'port'> & {
  readonly identity: ChannelIdentity<'manager'>;
};

export interface ConnectionOptions {
  readonly target: ChannelTarget;
  /** Further addresses of the agent, asked for at each dial; tried where the target's does not answer. */
  readonly otherHosts?: () => Promise<readonly string[]>;
  readonly dialTimeoutMs?: number;
  /** How long an address may stay without an answer before the next is tried. */
  readonly headStartMs?: number;
  readonly keepAliveMs?: number;
  readonly backOff?: BackOff;
  /** How long the requests of a replaced session may still run. */
  readonly drainMs?: number;
  readonly maxBodyBytes?: number;
  readonly sleep?: Sleep;
  readonly randomness?: Randomness;
}

/** What holds where nothing else is said. */
export const CONNECTION_DEFAULTS: Required<Omit<ConnectionOptions, 'target'>> = {
  otherHosts: async () => [],
  dialTimeoutMs: 10_000,
  headStartMs: 2500,
  keepAliveMs: 10_000,
  backOff: { firstMs: 500, maxMs: 60_000 },
  drainMs: 60_000,
  maxBodyBytes: 4 << 20,
  sleep: systemSleep,
  randomness: systemRandomness,
};
