import Type, { type Static } from 'typebox';
import { AgentIdentity, ManagerPins } from './agent-identity.ts';
import { Inventory } from './inventory.ts';
import { Address, Line, Port, Time } from './primitives.ts';

const strict = { additionalProperties: false };

/** What the manager hands `virt-trust agent install` on standard input, over the SSH session of the enrolment. */
export const InstallOrder = Type.Object(
  {
    managers: ManagerPins,
    /** From where the channel's port may be reached; nothing else is let in. */
    managerAddresses: Type.Array(Address, { minItems: 1, maxItems: 32 }),
    channelPort: Port,
    mode: Type.Union([Type.Literal('observe'), Type.Literal('manage')]),
  },
  strict,
);
export type InstallOrder = Static<typeof InstallOrder>;

/** What `virt-trust agent install` answers on standard output once the service runs and listens. */
export const InstallAnswer = Type.Object(
  {
    identity: AgentIdentity,
    version: Line,
    channelPort: Port,
    /** The host's clock now. */
    now: Time,
    /** What this run changed; empty where everything was right. */
    changed: Type.Array(Line, { maxItems: 64 }),
    inventory: Inventory,
  },
  strict,
);
export type InstallAnswer = Static<typeof InstallAnswer>;
