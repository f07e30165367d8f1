import type { Clock } from '@virt-trust/base/clock.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { PinSet } from '@virt-trust/channel/pins.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { Firewall } from '../firewall/firewall.ts';
import type { AgentPaths } from '../state/paths.ts';

/** The keys of the channel, as of now. */
export interface AgentKeys {
  /** The key in use, with which it is known to managers and to other agents. */
  readonly current: ChannelIdentity<'agent'>;
  /** Those of all its keys, which nobody else may have. */
  readonly own: PinSet<'agent'>;
  /** Whom it obeys. */
  readonly managers: PinSet<'manager'>;
}

/** What the agent's parts work with. */
export interface AgentContext {
  readonly paths: AgentPaths;
  readonly mode: InstallOrder['mode'];
  readonly keys: () => AgentKeys;
  readonly run: RunHostCommand;
  readonly firewall: Firewall;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  /** Adds to the host's events; a failure to do so is logged and stops nothing. */
  readonly record: (kind: string, subject: string, message: string) => Promise<void>;
  readonly inventory: () => Promise<Inventory>;
}
