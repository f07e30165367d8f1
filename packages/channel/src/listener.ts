import type { Http2Server, Http2Session, ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { admitPeer } from './admission.ts';
import { ALPN_MANAGER_TO_AGENT } from './alpn.ts';
import { PendingHandshakes } from './handshakes.ts';
import type { ChannelIdentity } from './identity.ts';
import { keepAlive } from './keepalive.ts';
import { peerAddress } from './peer-address.ts';
import { type PinSet, requireSeparateRoles } from './pins.ts';
import { type Refusal, RefusalReporter } from './refusals.ts';
import { type Sleep, systemSleep } from './sleep.ts';
import { channelTlsOptions } from './tls-options.ts';

export interface ListenOptions {
  /** The agent's own key as of now; read at the start and at each `refresh`. */
  readonly identity: () => ChannelIdentity<'agent'>;
  /** Whom the agent trusts as of now; read at each handshake. */
  readonly trustedManagers: () => PinSet<'manager'>;
  readonly host: string;
  readonly port: number;
  /** Made with `channelServerOptions()`, not listening; it gets the sockets of trusted managers only. */
  readonly server: Http2Server;
  readonly onRefused: (refusal: Refusal) => void;
  /** Whose connections are taken at all, by address; the others are closed before the handshake. Default: all. */
  readonly admitAddress?: (remoteAddress: string) => boolean;
  readonly maxRefusalsPerMinute?: number;
  readonly maxPendingHandshakes?: number;
  readonly handshakeMs?: number;
  readonly keepAliveMs?: number;
  readonly clock?: Clock;
  readonly sleep?: Sleep;
}

export interface ChannelListener {
  readonly address: AddressInfo;
  /** The trusted manager's pin behind an HTTP/2 session of the server; undefined for sessions of other doors. */
  peerOf(session: Http2Session | undefined): SpkiPin | undefined;
  /** Takes up a changed identity or set of managers; sessions of managers that are no longer trusted end at once. */
  refresh(): void;
  /** Ends the sessions that came in on an address that `isGone`: nothing reaches them any more. Answers how many. */
  endSessions(isGone: (localAddress: string) => boolean): number;
  /** Accepts nothing more and lets running requests finish until the signal is aborted. */
  close(signal?: AbortSignal): Promise<void>;
}

/**
 * Listens for managers (the agent's door of the channel): TLS 1.3 with a certificate on both sides, the peer's pin
 * checked before the HTTP/2 server sees the socket. Throws `channel.pin_role`, `channel.cannot_listen`.
 */
export async function listenChannel(options: ListenOptions): Promise<ChannelListener> {
  const { server, trustedManagers, clock = systemClock, sleep = systemSleep, keepAliveMs = 15_000 } = options;
  const refusals = new RefusalReporter(options.onRefused, clock, options.maxRefusalsPerMinute ?? 30);
  const bounds = {
    maxPending: options.maxPendingHandshakes ?? 64,
    deadlineMs: options.handshakeMs ?? 10_000,
    sleep,
  };
  const pending = new PendingHandshakes(bounds, (address, kind) => refusals.refuse(address, { kind }));
  const sessions = new Map<ServerHttp2Session, Admitted>();

  let identity = ownIdentity(options);
  const tlsServer = createServer({
    ...channelTlsOptions(identity),
    requestCert: true,
    // Nobody signs these certificates; admitPeer decides by the key.
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN_MANAGER_TO_AGENT],
    handshakeTimeout: bounds.deadlineMs,
  });
  // SECURITY: no resumeSession listener, ever: with one, tickets would be honoured.

  tlsServer.on('connection', (socket) => {
    if (options.admitAddress?.(socket.remoteAddress ?? '') ?? true) {
      pending.add(socket);
    } else {
      refusals.refuse(socket.remoteAddress ?? 'unknown', { kind: 'address' });
      socket.destroy();
    }
  });
  tlsServer.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    if (pending.finish(socket)) {
      refusals.refuse(addressOf(socket), { kind: 'handshake', detail: error.code ?? error.message });
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
      const admission = admitPeer(socket, ALPN_MANAGER_TO_AGENT, trustedManagers());
      if (admission.kind === 'admitted') {
        handOver(socket, admission.pin);
        return;
      }
      refusals.refuse(addressOf(socket), admission.refusal);
    } catch (error) {
      refusals.refuse(addressOf(socket), { kind: 'internal', detail: describeError(error) });
    }
    socket.destroy();
  });

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
      const managers = trustedManagers();
      for (const [session, admitted] of sessions) {
        if (!managers.isTrusted(admitted.pin)) cutOff(session, admitted);
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

function ownIdentity({ identity, trustedManagers }: ListenOptions): ChannelIdentity<'agent'> {
  const own = identity();
  requireSeparateRoles(trustedManagers(), own.asPinSet());
  return own;
}

function addressOf(socket: TLSSocket): string {
  return socket.remoteAddress ?? 'unknown';
}

function cannotListen({ host, port }: ListenOptions, cause: Error): TrustError {
  return new TrustError(
    'channel.cannot_listen',
    'failed',
    `cannot listen for managers on ${host} port ${port}`,
    {
      context: { host, port },
      hint: 'See what holds the port (ss -tlnp) or whether the host has that address.',
      cause,
    },
  );
}
