import type { Http2Server, Http2Session, ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { AddressRate } from './address-rate.ts';
import { admitPeer } from './admission.ts';
import { ALPN_BY_DIALLER, type ChannelRole } from './alpn.ts';
import { PendingHandshakes } from './handshakes.ts';
import type { ChannelIdentity } from './identity.ts';
import { keepAlive } from './keepalive.ts';
import { peerAddress } from './peer-address.ts';
import { type PinSet, requireSeparateRoles } from './pins.ts';
import { type Refusal, type RefusalReason, RefusalReporter } from './refusals.ts';
import { type Sleep, systemSleep } from './sleep.ts';
import { channelTlsOptions } from './tls-options.ts';

export interface ListenOptions<Dialler extends ChannelRole> {
  /** The agent's own key as of now; read at the start and at each `refresh`. */
  readonly identity: () => ChannelIdentity<'agent'>;
  /** For whom this door is; it decides the ALPN name. */
  readonly diallers: Dialler;
  /** Whom the agent trusts in that role as of now; read at each handshake. */
  readonly trustedPeers: () => PinSet<Dialler>;
  readonly host: string;
  readonly port: number;
  /** Made with `channelServerOptions()`, not listening; it gets the sockets of trusted peers only. */
  readonly server: Http2Server;
  readonly onRefused: (refusal: Refusal) => void;
  /** Whose connections are taken at all, by address; the others are closed before the handshake. Default: all. */
  readonly admitAddress?: (remoteAddress: string) => boolean;
  /** What an address may cost; default: as much as it likes. */
  readonly rate?: AddressRate;
  /** Channels that one key may have at a time; default: any number. */
  readonly maxChannelsPerPeer?: (pin: SpkiPin) => number;
  readonly maxRefusalsPerMinute?: number;
  readonly maxPendingHandshakes?: number;
  readonly handshakeMs?: number;
  readonly keepAliveMs?: number;
  readonly clock?: Clock;
  readonly sleep?: Sleep;
}

export interface ChannelListener {
  readonly address: AddressInfo;
  /** The trusted peer's pin behind an HTTP/2 session of the server; undefined for sessions of other doors. */
  peerOf(session: Http2Session | undefined): SpkiPin | undefined;
  /** Takes up a changed identity or set of peers; sessions of peers that are no longer trusted end at once. */
  refresh(): void;
  /** Ends the sessions that came in on an address that `isGone`: nothing reaches them any more. Answers how many. */
  endSessions(isGone: (localAddress: string) => boolean): number;
  /** Accepts nothing more and lets running requests finish until the signal is aborted. */
  close(signal?: AbortSignal): Promise<void>;
}

/** What a connection costs of its address's share, and what it costs besides where it proved nothing. */
const COST = 1;
const COST_OF_REFUSAL = 3;

/**
 * Listens for managers, or for agents with a grant (an agent's doors of the channel): TLS 1.3 with a certificate on both
 * sides, the peer's pin checked before the HTTP/2 server sees the socket. Throws `channel.pin_role`,
 * `channel.cannot_listen`.
 */
export async function listenChannel<Dialler extends ChannelRole>(
  options: ListenOptions<Dialler>,
): Promise<ChannelListener> {
  const { server, trustedPeers, clock = systemClock, sleep = systemSleep, keepAliveMs = 15_000 } = options;
  const { rate, maxChannelsPerPeer = () => Number.POSITIVE_INFINITY } = options;
  const alpn = ALPN_BY_DIALLER[options.diallers];
  const reporter = new RefusalReporter(options.onRefused, clock, options.maxRefusalsPerMinute ?? 30);
  const refuse = (remoteAddress: string, reason: RefusalReason) => {
    rate?.spend(peerAddress(remoteAddress), COST_OF_REFUSAL);
    reporter.refuse(remoteAddress, reason);
  };
  const bounds = {
    maxPending: options.maxPendingHandshakes ?? 64,
    deadlineMs: options.handshakeMs ?? 10_000,
    sleep,
  };
  const pending = new PendingHandshakes(bounds, (address, kind) => refuse(address, { kind }));
  const sessions = new Map<ServerHttp2Session, Admitted>();

  let identity = ownIdentity(options);
  const tlsServer = createServer({
    ...channelTlsOptions(identity),
    requestCert: true,
    // Nobody signs these certificates; admitPeer decides by the key.
    rejectUnauthorized: false,
    ALPNProtocols: [alpn],
    handshakeTimeout: bounds.deadlineMs,
  });
  // SECURITY: no resumeSession listener, ever: with one, tickets would be honoured.

  tlsServer.on('connection', (socket) => {
    const kind = strangeness(socket.remoteAddress ?? '');
    if (kind === undefined) {
      pending.add(socket);
    } else {
      reporter.refuse(socket.remoteAddress ?? 'unknown', { kind });
      socket.destroy();
    }
  });

  /** Why an address is not let in; looking at it is all that it costs. */
  function strangeness(remoteAddress: string): 'address' | 'too-often' | undefined {
    if (options.admitAddress?.(remoteAddress) === false) return 'address';
    const address = peerAddress(remoteAddress);
    if (rate?.allows(address) === false) return 'too-often';
    rate?.spend(address, COST);
    return undefined;
  }

  tlsServer.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    if (pending.finish(socket)) {
      refuse(addressOf(socket), { kind: 'handshake', detail: error.code ?? error.message });
    }
    socket.destroy();
  });
  tlsServer.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    if (!pending.finish(socket)) {
      socket.destroy();
      return;
    }
    // SECURITY: nothing may be awaited between here and the hand-over; not one byte leaves before the check.
    try {
      const admission = admitPeer(socket, alpn, trustedPeers());
      if (admission.kind === 'refused') {
        refuse(addressOf(socket), admission.refusal);
      } else if (channelsOf(admission.pin) >= maxChannelsPerPeer(admission.pin)) {
        refuse(addressOf(socket), { kind: 'too-many-channels', pin: admission.pin });
      } else {
        handOver(socket, admission.pin);
        return;
      }
    } catch (error) {
      refuse(addressOf(socket), { kind: 'internal', detail: describeError(error) });
    }
    socket.destroy();
  });

  function channelsOf(pin: SpkiPin): number {
    return [...sessions.values()].filter((admitted) => admitted.pin === pin).length;
  }

  function handOver(socket: TLSSocket, pin: SpkiPin): void {
    const onSession = (session: ServerHttp2Session) => {
      sessions.set(session, { pin, socket });
      session.on('error', () => {});
      session.once('close', () => sessions.delete(session));
      void keepAlive(session, { intervalMs: keepAliveMs, answerMs: keepAliveMs, sleep });
    };
    // The session is made synchronously by the emit, so this listener meets this socket's session only, first.
    server.prependOnceListener('session', onSession);
    server.emit('connection', socket);
    server.off('session', onSession);
  }

  await new Promise<void>((resolve, reject) => {
    tlsServer.once('error', (cause) => reject(cannotListen(options, cause)));
    tlsServer.listen({ host: options.host, port: options.port }, resolve);
  });
  tlsServer.removeAllListeners('error');
  tlsServer.on('error', () => {});

  return {
    address: tlsServer.address() as AddressInfo,
    peerOf: (session) =>
      session === undefined ? undefined : sessions.get(session as ServerHttp2Session)?.pin,
    refresh() {
      const next = ownIdentity(options);
      if (next.pin !== identity.pin || next.certificatePem !== identity.certificatePem) {
        tlsServer.setSecureContext(channelTlsOptions(next));
        identity = next;
      }
      const peers = trustedPeers();
      for (const [session, admitted] of sessions) {
        if (!peers.isTrusted(admitted.pin)) cutOff(session, admitted);
      }
    },
    endSessions(isGone) {
      const dead = [...sessions].filter(([, { socket }]) => isGone(peerAddress(socket.localAddress)));
      for (const [session, admitted] of dead) cutOff(session, admitted);
      return dead.length;
    },
    async close(signal) {
      const ended = new Promise<void>((resolve) => tlsServer.close(() => resolve()));
      pending.clear();
      const destroyAll = () => {
        for (const [session, admitted] of sessions) cutOff(session, admitted);
      };
      for (const session of sessions.keys()) session.close();
      if (signal?.aborted) destroyAll();
      else signal?.addEventListener('abort', destroyAll, { once: true });
      await ended;
      signal?.removeEventListener('abort', destroyAll);
    },
  };
}

interface Admitted {
  readonly pin: SpkiPin;
  readonly socket: TLSSocket;
}

function cutOff(session: ServerHttp2Session, { socket }: Admitted): void {
  session.destroy();
  // A session that was closing would wait for the other side to close too, which a dead one never does.
  socket.destroy();
}

function ownIdentity<Dialler extends ChannelRole>({
  identity,
  trustedPeers,
}: ListenOptions<Dialler>): ChannelIdentity<'agent'> {
  const own = identity();
  requireSeparateRoles(trustedPeers(), own.asPinSet());
  return own;
}

function addressOf(socket: TLSSocket): string {
  return socket.remoteAddress ?? 'unknown';
}

function cannotListen(
  { diallers, host, port }: Pick<ListenOptions<ChannelRole>, 'diallers' | 'host' | 'port'>,
  cause: Error,
): TrustError {
  return new TrustError(
    'channel.cannot_listen',
    'failed',
    `cannot listen for ${diallers}s on ${host} port ${port}`,
    {
      context: { host, port },
      hint: 'See what holds the port (ss -tlnp) or whether the host has that address.',
      cause,
    },
  );
}
