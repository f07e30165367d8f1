import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { ChannelConnection, type ConnectionState } from '@virt-trust/channel/connection.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { ApiClient, type Transport } from '@virt-trust/contract/client.ts';
import { awayOf } from './away.ts';
import type { Host } from './host.ts';

/** A host's channel: the typed client of its agent, and whether it is up. */
export interface HostChannel {
  readonly agent: ApiClient;
  readonly state: ConnectionState;
  /** Resolves once the channel is up; throws the signal's reason, or `host.channel_down` past the limit. */
  waitUntilUp(signal: AbortSignal, limitMs?: number): Promise<void>;
}

/** How long a channel that is down is waited for where nothing else is said. */
const WAIT_MS = 30_000;

/** The errors of a request for which there was no channel, or that it broke under. */
const LOST: ReadonlySet<string> = new Set(['channel.down', 'channel.interrupted', 'channel.not_sent']);

type StateListener = (
  hostId: HostId,
  hostName: string,
  state: ConnectionState,
  /** Which of the manager's own keys the channel goes by. */
  ownPin: SpkiPin,
) => void;

type Identity = ChannelIdentity<'manager'>;

interface Entry {
  readonly connection: ChannelConnection;
  /** The host's, as it is called now. */
  name: string;
  readonly agent: ApiClient;
  address: string;
  port: number;
  pins: string;
  /** The manager's key that the channel goes by, or that is tried on it now. */
  own: SpkiPin;
  trying: boolean;
  /** Since when a channel is down that was up; null while it is up, and where it never was. */
  lostAt: Instant | null;
}

/** Keeps one channel to every managed host, dialled by the manager and dialled again for ever. */
export class HostChannels {
  readonly #entries = new Map<HostId, Entry>();
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #onState: StateListener;
  readonly #otherAddressesOf: (id: HostId) => Promise<readonly string[]>;
  #identities: readonly Identity[];
  #closed = false;

  /**
   * `identities`: all keys of the manager, the one in use first. `otherAddressesOf`: where a host may answer that does not
   * where it did.
   */
  constructor(options: {
    identities: readonly Identity[];
    log: Log;
    clock?: Clock;
    onState: StateListener;
    otherAddressesOf?: (id: HostId) => Promise<readonly string[]>;
  }) {
    this.#identities = options.identities;
    this.#log = options.log;
    this.#clock = options.clock ?? systemClock;
    this.#onState = options.onState;
    this.#otherAddressesOf = options.otherAddressesOf ?? (async () => []);
  }

  get #identity(): Identity {
    const [current] = this.#identities;
    if (current === undefined)
      throw new TrustError('channel.no_identity', 'internal', 'cannot dial: the manager has no channel key');
    return current;
  }

  /** The channel of a host, made at first use and brought to its present address and pins. */
  async of(host: Host): Promise<HostChannel> {
    const entry = this.#entries.get(host.id) ?? this.#make(host);
    return channelOf(await this.#bringUpToDate(entry, host), host);
  }

  /** The state of a host's channel; null where none was opened. */
  stateOf(hostId: HostId): ConnectionState | null {
    return this.#entries.get(hostId)?.connection.state ?? null;
  }

  /** Since when a host is away that was there; null while it is there, and where it never was. */
  lostAt(hostId: HostId): Instant | null {
    return this.#entries.get(hostId)?.lostAt ?? null;
  }

  /** Where a host answers, while that is not where it is recorded to be; null otherwise. */
  detourOf(hostId: HostId): string | null {
    const entry = this.#entries.get(hostId);
    const at = entry === undefined ? undefined : answersAt(entry);
    return at === undefined || at === entry?.address ? null : at;
  }

  #make(host: Host): Entry {
    // Whoever still asks after the end would open what nobody closes.
    if (this.#closed) throw new TrustError('channel.closed', 'unavailable', 'cannot dial: the manager stops');
    const identity = this.#identity;
    const connection = new ChannelConnection({
      target: {
        identity,
        trustedAgentPins: new PinSet('agent', host.agentPins),
        host: host.channel.address,
        port: host.channel.port,
      },
      otherHosts: () => this.#otherAddressesOf(host.id),
    });
    let wasUp = false;
    connection.onState((state) => {
      if (state.kind === 'down' && wasUp) entry.lostAt = this.#clock.now();
      if (state.kind === 'up') entry.lostAt = null;
      wasUp = state.kind === 'up';
      if (state.kind === 'down')
        this.#log.warn({ host: entry.name, reason: state.reason.code }, 'channel down');
      if (state.kind === 'up') {
        this.#log.info({ host: entry.name, address: state.host, group: state.group }, 'channel up');
      }
      if (state.kind === 'down' && state.reason.code === 'channel.peer_refused') void this.#tryOthers(entry);
      this.#onState(host.id, entry.name, state, entry.own);
    });
    const entry: Entry = {
      connection,
      name: host.name,
      agent: new ApiClient(transportOf(connection), `the agent on ${host.name}`),
      address: host.channel.address,
      port: host.channel.port,
      pins: host.agentPins.join(),
      own: identity.pin,
      trying: false,
      lostAt: null,
    };
    this.#entries.set(host.id, entry);
    return entry;
  }

  /**
   * An agent that refuses one of the manager's keys may know another: a store that was restored from before a rollover
   * has the key that came into use as its standby.
   */
  async #tryOthers(entry: Entry): Promise<void> {
    if (entry.trying) return;
    entry.trying = true;
    const before = entry.own;
    try {
      for (const identity of this.#identities) {
        if (identity.pin === before) continue;
        entry.own = identity.pin;
        const tried = await entry.connection.replace({ identity }).then(
          () => true,
          () => false,
        );
        if (tried) return;
      }
      entry.own = before;
    } finally {
      entry.trying = false;
    }
  }

  async #bringUpToDate(entry: Entry, host: Host): Promise<Entry> {
    const { address, port } = host.channel;
    const pins = host.agentPins.join();
    const elsewhere = entry.address !== address;
    const keys = entry.pins !== pins || entry.port !== port;
    if (!elsewhere && !keys) return entry;
    entry.address = address;
    entry.port = port;
    entry.pins = pins;
    if (!keys && answersAt(entry) === address) {
      entry.connection.prefer(address);
      return entry;
    }
    try {
      const own = this.#identities.find(({ pin }) => pin === entry.own);
      await this.#replace(entry, host, own ?? this.#identity, elsewhere ? address : undefined);
    } catch (error) {
      this.#log.warn({ host: host.name, reason: describeError(error) }, 'dialling anew');
      if (!keys && answersAt(entry) !== undefined) {
        // By its key it is the host all the same.
        entry.connection.prefer(address);
        return entry;
      }
      // Nothing has changed in it: it would go on with what is not true any more.
      await this.forget(host.id);
      return this.#make(host);
    }
    return entry;
  }

  /** At the address, or where it is up now. */
  async #replace(entry: Entry, host: Host, identity: Identity, address?: string): Promise<void> {
    const before = entry.own;
    entry.own = identity.pin;
    try {
      await entry.connection.replace({
        identity,
        trustedAgentPins: new PinSet('agent', host.agentPins),
        port: host.channel.port,
        ...(address === undefined ? {} : { host: address }),
      });
    } catch (error) {
      entry.own = before;
      throw error;
    }
  }

  /** Dials the host anew with the present identity and pins; requests under way end on the old session. */
  async redial(host: Host): Promise<void> {
    const entry = this.#entries.get(host.id);
    if (entry !== undefined) await this.#replace(entry, host, this.#identity);
  }

  /** The host is called so from now on. */
  renamed(hostId: HostId, name: string): void {
    const entry = this.#entries.get(hostId);
    if (entry !== undefined) entry.name = name;
  }

  /** The host made itself known at an address; a channel that answers stays where it is. */
  async announced(host: Host, address: string): Promise<void> {
    const entry = this.#entries.get(host.id) ?? this.#make(host);
    await entry.connection.announced(address);
  }

  /** From the next dial on the manager has these keys, the one in use first. */
  useIdentities(identities: readonly Identity[]): void {
    this.#identities = identities;
  }

  async forget(hostId: HostId): Promise<void> {
    const entry = this.#entries.get(hostId);
    this.#entries.delete(hostId);
    await entry?.connection.close();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#entries.keys()].map((id) => this.forget(id)));
  }
}

/** Whether a request failed because the channel broke or is down, so that it may be sent again once it is up. */
export function isChannelLost(error: unknown): boolean {
  return isTrustError(error) && LOST.has(error.code);
}

function channelOf(entry: Entry, host: Host): HostChannel {
  const { connection } = entry;
  return {
    agent: entry.agent,
    get state() {
      return connection.state;
    },
    async waitUntilUp(signal, limitMs = WAIT_MS) {
      try {
        await connection.waitUntilUp(AbortSignal.any([signal, AbortSignal.timeout(limitMs)]));
      } catch {
        signal.throwIfAborted();
        throw channelDown(host, connection.state, entry.lostAt);
      }
    },
  };
}

function channelDown(host: Host, state: ConnectionState, since: Instant | null): TrustError {
  const { why, look } = awayOf(host, state, since);
  return new TrustError('host.channel_down', 'unavailable', `cannot reach host ${host.name}: ${why}`, {
    context: { host: host.name, address: host.channel.address, port: host.channel.port, why },
    hint: look,
  });
}

function answersAt({ connection: { state } }: Entry): string | undefined {
  return state.kind === 'up' ? state.host : undefined;
}

function transportOf(connection: ChannelConnection): Transport {
  return async (request) => {
    const response = await connection.request({
      method: request.method,
      path: request.path,
      headers: request.headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    });
    return {
      status: response.status,
      contentType: String(response.headers['content-type'] ?? ''),
      body: response.body.toString('utf8'),
    };
  };
}
