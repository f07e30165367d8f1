import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { type Instant, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import {
  type Announcement,
  type AnnouncementListener,
  listenForAnnouncements,
} from '@virt-trust/channel/announcement-listener.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { type Sleep, systemSleep } from '@virt-trust/channel/sleep.ts';
import type { Counter } from '../metrics/metrics.ts';
import type { HostChannels } from './channels.ts';
import type { Host, HostRepository } from './host.ts';
import { KnownAgents } from './known-agents.ts';
import { sourceAddressTowards } from './manager-address.ts';

/** Where the manager listens for hosts that make themselves known; an address that is not given is every one. */
export interface AnnounceListenOptions {
  readonly address?: string | undefined;
  readonly port: number;
}

/** Where hosts announce themselves unless something else is said. */
export const DEFAULT_ANNOUNCE_PORT = 16517;

export interface AnnouncementsParts {
  readonly repository: HostRepository;
  readonly channels: Pick<HostChannels, 'announced'>;
  readonly identity: () => ChannelIdentity<'manager'>;
  readonly counter: Counter;
  readonly clock: Clock;
  readonly log: Log;
  readonly sleep?: Sleep;
}

/** SECURITY: a host that announces itself on and on has itself dialled so often, and only itself. */
const BETWEEN_MS = 2 * SECOND;
/** The host reads from where it will be dialled, and opens its firewall for that. */
const DIAL_BACK_AFTER_MS = SECOND / 2;

/** Hears hosts that make themselves known, and has them dialled where they are; whether one is there its key says. */
export class Announcements {
  readonly #parts: AnnouncementsParts;
  readonly #agents: KnownAgents;
  readonly #last = new Map<HostId, Instant>();
  readonly #stop = new AbortController();
  #listener: AnnouncementListener | undefined;

  constructor(parts: AnnouncementsParts) {
    this.#parts = parts;
    this.#agents = new KnownAgents(parts.repository);
  }

  /** Where hosts are to announce themselves; null where nobody listens. */
  get port(): number | null {
    return this.#listener?.address.port ?? null;
  }

  /** Listens; where the port is taken it warns and goes on without, because channels are dialled all the same. */
  async start(listen: AnnounceListenOptions | undefined): Promise<void> {
    if (listen === undefined) return;
    await this.#agents.start();
    const { log } = this.#parts;
    try {
      this.#listener = await this.#listen(listen);
      const { address, port } = this.#listener.address;
      log.info({ address, port }, 'hosts may announce themselves');
    } catch (error) {
      log.warn(
        { ...listen, reason: describeError(error) },
        'hosts cannot announce themselves: see --announce-listen',
      );
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#listener?.close();
  }

  async #listen({ address, port }: AnnounceListenOptions): Promise<AnnouncementListener> {
    const listenAt = (host: string) =>
      listenForAnnouncements({
        identity: this.#parts.identity,
        trustedAgents: () => this.#agents.pins,
        host,
        port,
        onAnnounced: (announcement) => this.#heard(announcement),
        onRefused: (refusal) => this.#parts.log.warn({ ...refusal }, 'announcement refused'),
        onCounted: (outcome) => this.#parts.counter.add({ outcome }),
        clock: this.#parts.clock,
      });
    if (address !== undefined) return listenAt(address);
    // A kernel that has no IPv6.
    return listenAt('::').catch((error: unknown) => {
      if (causeOf(error) === 'EADDRINUSE') throw error;
      return listenAt('0.0.0.0');
    });
  }

  async #heard({ agentPin, remoteAddress, localAddress }: Announcement): Promise<string[]> {
    const { repository, counter, clock, log } = this.#parts;
    counter.add({ outcome: 'heard' });
    const id = this.#agents.hostOf(agentPin);
    const host = id === undefined ? null : await repository.get(id);
    if (id === undefined || host === null) return [];
    const source = await sourceAddressTowards(remoteAddress);
    const now = clock.now();
    const last = this.#last.get(id) ?? 0;
    if (now - last >= BETWEEN_MS || now < last) {
      this.#last.set(id, now);
      log.info({ host: host.name, remoteAddress, localAddress }, 'host announced itself');
      void this.#dialBack(host, remoteAddress);
    }
    return source === null ? [] : [source];
  }

  async #dialBack(host: Host, address: string): Promise<void> {
    const { channels, log, sleep = systemSleep } = this.#parts;
    try {
      await sleep(DIAL_BACK_AFTER_MS, this.#stop.signal);
      await channels.announced(host, address);
    } catch (error) {
      if (!this.#stop.signal.aborted)
        log.warn({ host: host.name, reason: describeError(error) }, 'host was not dialled back');
    }
  }
}

function causeOf(error: unknown): string | undefined {
  return ((error as Error | undefined)?.cause as NodeJS.ErrnoException | undefined)?.code;
}
