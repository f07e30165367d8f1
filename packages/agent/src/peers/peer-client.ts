import { TrustError } from '@virt-trust/base/error.ts';
import type { ChannelSession } from '@virt-trust/channel/dial.ts';
import { dialFirst } from '@virt-trust/channel/dial-first.ts';
import { exchange } from '@virt-trust/channel/exchange.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { keepAlive } from '@virt-trust/channel/keepalive.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { type Sleep, systemSleep } from '@virt-trust/channel/sleep.ts';
import { ApiClient, type TransportRequest, type TransportResponse } from '@virt-trust/contract/client.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';

/** Times of a client; left out, those of an agent. */
export interface PeerClientOptions {
  /** From the start of a dial of one address to the peer's HTTP/2 settings. */
  readonly dialTimeoutMs?: number;
  /** How long an address may stay without an answer before the next is tried besides. */
  readonly headStartMs?: number;
  /** Between an answer and the next PING; the same again without an answer and the channel counts as cut. */
  readonly keepAliveMs?: number;
  readonly sleep?: Sleep;
}

/** The peer's end of the channel that is up. */
interface ReachedPeer {
  /** The address of `reachedAt` that answered. */
  readonly address: string;
  readonly pin: string;
  /** The negotiated key exchange group, such as X25519MLKEM768. */
  readonly group: string;
}

/** Asks the other agent of a migration what its grant lets this one ask. */
export interface PeerClient {
  readonly api: ApiClient;
  /** Dials where there is no channel yet; throws as `dialChannel` does. */
  reach(signal?: AbortSignal): Promise<ReachedPeer>;
  /** Ends the channel and whatever runs on it. */
  close(): void;
}

interface Reached {
  readonly session: ChannelSession;
  readonly peer: ReachedPeer;
}

/** Far above what a peer answers. */
const MAX_ANSWER_BYTES = 1024 * 1024;

/**
 * A client of a grant's peer over an agent-to-agent channel, dialled with the first call, at the addresses of
 * `grant.peer.reachedAt` in their order; a call after a broken channel dials anew. No call is sent twice. Calls throw as
 * `dialChannel` and `exchange` do (`channel.*`: whether it was done is not known after `channel.interrupted`), and what
 * the peer itself refuses with (`grant.*`, ...).
 */
export function peerClient(
  grant: Pick<Grant, 'peer'>,
  identity: () => ChannelIdentity<'agent'>,
  options: PeerClientOptions = {},
): PeerClient {
  const { dialTimeoutMs = 10_000, headStartMs = 2500, keepAliveMs = 10_000, sleep = systemSleep } = options;
  const { peer } = grant;
  const trustedAgentPins = new PinSet('agent', peer.pins);
  const closed = new AbortController();
  let current: Reached | undefined;
  let dialling: Promise<Reached> | undefined;

  async function dial(): Promise<Reached> {
    const [host = '', ...otherHosts] = peer.reachedAt;
    const found = await dialFirst({
      identity: identity(),
      trustedAgentPins,
      host,
      otherHosts,
      port: peer.port,
      timeoutMs: dialTimeoutMs,
      headStartMs,
      sleep,
      signal: closed.signal,
    });
    const { http2, peerPin, group } = found.session;
    void keepAlive(http2, { intervalMs: keepAliveMs, answerMs: keepAliveMs, sleep });
    return { session: found.session, peer: { address: found.host, pin: peerPin, group } };
  }

  /** One dial serves all who wait for it; each waits no longer than its own signal lets it. */
  async function reached(signal: AbortSignal | undefined): Promise<Reached> {
    closed.signal.throwIfAborted();
    signal?.throwIfAborted();
    if (current !== undefined && isUsable(current)) return current;
    dialling ??= dial()
      .then((made) => {
        current = made;
        return made;
      })
      .finally(() => {
        dialling = undefined;
      });
    return await orAborted(dialling, signal);
  }

  async function send(request: TransportRequest): Promise<TransportResponse> {
    const { method, path, headers, body, signal } = request;
    const { session } = await reached(signal);
    const response = await exchange(
      session.http2,
      {
        method,
        path,
        headers,
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      },
      MAX_ANSWER_BYTES,
    );
    return {
      status: response.status,
      contentType: String(response.headers['content-type'] ?? ''),
      body: response.body.toString('utf8'),
    };
  }

  return {
    api: new ApiClient(send, `the agent on ${peer.name}`),
    reach: async (signal) => (await reached(signal)).peer,
    close() {
      closed.abort(new TrustError('channel.closed', 'unavailable', 'cannot use the channel: it was closed'));
      current?.session.destroy();
    },
  };
}

function isUsable({ session: { http2 } }: Reached): boolean {
  return !http2.closed && !http2.destroyed;
}

async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work;
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
