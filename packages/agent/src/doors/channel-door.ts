import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { PinSet } from '@virt-trust/channel/pins.ts';
import type { AddressGuard } from './address-guard.ts';
import type { Handlers } from './handlers.ts';
import { openPinnedDoor, type PinnedDoor } from './pinned-door.ts';

export interface ChannelDoorOptions {
  readonly identity: () => ChannelIdentity<'agent'>;
  readonly trustedManagers: () => PinSet<'manager'>;
  readonly port: number;
  readonly admits: AddressGuard;
  readonly handlers: Handlers;
  readonly log: Log;
  readonly clock: Clock;
  /** Called when a manager came or went. */
  readonly onChannels?: () => void;
}

/** A manager that is connected now. */
interface OpenChannel {
  readonly remoteAddress: string;
  readonly managerPin: SpkiPin;
  readonly since: Instant;
}

/**
 * `refresh` takes up changed keys and managers; `endSessions` ends the channels that came in on an address that is the
 * host's no more.
 */
export interface ChannelDoor extends Omit<PinnedDoor, 'address'> {
  /** Address and port, as `ss` writes them. */
  readonly listen: string;
  readonly port: number;
  channels(): OpenChannel[];
}

/** Opens the manager's door, for admitted addresses and the managers' pins only. */
export async function openChannelDoor(options: ChannelDoorOptions): Promise<ChannelDoor> {
  const { handlers, log, clock, onChannels } = options;
  const open = new Set<OpenChannel>();
  const door = await openPinnedDoor({
    door: 'channel',
    handlers,
    log,
    listen: {
      identity: options.identity,
      diallers: 'manager',
      trustedPeers: options.trustedManagers,
      port: options.port,
      admitAddress: options.admits,
      clock,
      onRefused: (refusal) => log.warn({ ...refusal }, 'connection refused'),
    },
    callerOf: ({ pin, remoteAddress }) => ({ door: 'channel', managerPin: pin, remoteAddress }),
    onSession: ({ pin, remoteAddress }, closed) => {
      const channel = { remoteAddress, managerPin: pin, since: clock.now() };
      open.add(channel);
      void closed.then(() => {
        open.delete(channel);
        onChannels?.();
      });
      onChannels?.();
    },
  });
  const { address, port } = door.address;
  return {
    ...door,
    listen: address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`,
    port,
    channels: () => [...open],
  };
}
