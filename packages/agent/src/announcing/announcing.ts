import { describeError } from '@virt-trust/base/error.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import { announce } from '@virt-trust/channel/announcement.ts';
import { peerAddress } from '@virt-trust/channel/peer-address.ts';
import type { Sleep } from '@virt-trust/channel/sleep.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { HostNetwork } from '@virt-trust/contract/model/inventory.ts';
import type { ChannelDoor } from '../doors/channel-door.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { ApplyEngine } from '../ports/apply-engine.ts';
import type { IdentityStore } from '../state/identity.ts';
import type { ManagerStore } from '../state/managers.ts';
import { Announcer } from './announcer.ts';
import { ManagerAddresses } from './manager-addresses.ts';

export interface AnnouncingParts {
  readonly context: AgentContext;
  /** From where managers may come, by the install order. */
  readonly installed: readonly string[];
  readonly identity: IdentityStore;
  readonly managers: ManagerStore;
  readonly apply: Pick<ApplyEngine, 'desiredState'>;
  readonly channel: () => ChannelDoor | undefined;
  readonly sleep: Sleep | undefined;
  /** The channel's port is to be open for these from now on. */
  readonly open: (addresses: readonly string[]) => Promise<void>;
}

/** From where managers come, and how they learn where this host is. */
export interface Announcing {
  readonly addresses: ManagerAddresses;
  /** Once the desired state can be read. */
  start(): Promise<void>;
  /** A manager came or went. */
  channelsChanged(): void;
  /** A manager said anew what it wants, and so where it is; it said that from an address. */
  desired(desired: DesiredState, managerAddress: string): Promise<void>;
  /** The host has other addresses: channels to those that are gone are over. */
  networkChanged(network: HostNetwork | null): void;
  stop(): Promise<void>;
}

const ANNOUNCE_MS = 5 * SECOND;

/** Reads what is kept of it; announces nothing yet. */
export async function openAnnouncing(parts: AnnouncingParts): Promise<Announcing> {
  const { context, identity, managers, apply, channel } = parts;
  const addresses = await ManagerAddresses.open(context.paths, parts.installed);
  const opened = async (reason: string) => {
    await context.record('manager.addresses', addresses.all.join(' '), reason);
    await parts.open(addresses.all);
  };
  const announcer = new Announcer({
    announceTo: async () => (await apply.desiredState())?.settings.announceTo ?? [],
    announce: ({ address, port }, signal) =>
      announce({
        identity: identity.current,
        trustedManagers: managers.pins,
        host: address,
        port,
        timeoutMs: ANNOUNCE_MS,
        signal,
      }),
    channels: () => channel()?.channels().length ?? 0,
    onAnnounced: async ({ address, port }, { managerPin, dialsFrom }) => {
      await context.record('channel.announced', `${address} port ${port}`, `to ${managerPin}`);
      // SECURITY: only what a manager said, or where it answered, once its pin was found trusted.
      if (await addresses.prove([address, ...dialsFrom])) await opened('a manager proved its key there');
    },
    randomness: context.randomness,
    log: context.log,
    ...(parts.sleep === undefined ? {} : { sleep: parts.sleep }),
  });
  return {
    addresses,
    async start() {
      const wanted = await apply.desiredState();
      addresses.tell((wanted?.settings.announceTo ?? []).map(({ address }) => address));
      announcer.start();
    },
    channelsChanged: () => announcer.channelsChanged(),
    stop: () => announcer.stop(),
    async desired({ settings }, managerAddress) {
      const told = addresses.tell(settings.announceTo.map(({ address }) => address));
      try {
        // A list without the address that it came from shuts that manager out with its next connection.
        const proven = await addresses.prove([managerAddress]);
        if (told || proven) await opened('a manager said so');
      } catch (error) {
        context.log.warn({ reason: describeError(error) }, 'cannot open the channel for new addresses');
      }
    },
    networkChanged(network) {
      if (network === null) return;
      const present = new Set(
        network.interfaces.flatMap((one) => one.addresses.map(({ address }) => peerAddress(address))),
      );
      const ended = channel()?.endSessions((local) => !present.has(local) && !isLoopback(local)) ?? 0;
      if (ended > 0) context.log.info({ ended }, 'channels ended whose address is gone');
      announcer.addressesChanged();
    },
  };
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}
