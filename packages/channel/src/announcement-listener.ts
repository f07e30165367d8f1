import type { AddressInfo, Socket } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { AddressRate } from './address-rate.ts';
import { admitPeer } from './admission.ts';
import { ALPN_ANNOUNCEMENT } from './alpn.ts';
import { encodeAnswer } from './announcement.ts';
import { PendingHandshakes } from './handshakes.ts';
import type { ChannelIdentity } from './identity.ts';
import { peerAddress } from './peer-address.ts';
import { PinSet, requireSeparateRoles } from './pins.ts';
import { type Refusal, type RefusalReason, RefusalReporter } from './refusals.ts';
import { type Sleep, systemSleep } from './sleep.ts';
import { channelTlsOptions } from './tls-options.ts';

/** An agent that proved its key: it is, or was a moment ago, to be found at that address. */
export interface Announcement {
  readonly agentPin: SpkiPin;
  readonly remoteAddress: string;
  /** The manager's own address that it reached. */
  readonly localAddress: string;
}

export interface AnnouncementListenOptions {
  /** The manager's key in use; read at each connection. */
  readonly identity: () => ChannelIdentity<'manager'>;
  /** The keys of all hosts as of now; read at each handshake. */
  readonly trustedAgents: () => PinSet<'agent'>;
  readonly host: string;
  readonly port: number;
  /** Answers from where the agent will be dialled. */
  readonly onAnnounced: (announcement: Announcement) => Promise<readonly string[]>;
  readonly onRefused: (refusal: Refusal) => void;
  /** Called with each refusal, also those that are too many to be reported. */
  readonly onCounted?: (reason: RefusalReason['kind']) => void;
  readonly maxRefusalsPerMinute?: number;
  readonly maxPendingHandshakes?: number;
  readonly perAddressPerMinute?: number;
  readonly handshakeMs?: number;
  readonly clock?: Clock;
  readonly sleep?: Sleep;
}

export interface AnnouncementListener {
  readonly address: AddressInfo;
  close(): Promise<void>;
}

/** What a connection costs of its address's share, and what it costs besides where it proved nothing. */
const COST = 1;
const COST_OF_REFUSAL = 3;

/**
 * Listens for agents that make themselves known (the manager's only door that is not its API): TLS 1.3 with a certificate
 * on both sides, the agent's pin checked, a few bytes of answer, closed. Nothing that an agent writes is ever read.
 * Throws `channel.cannot_listen`.
 */
export async function listenForAnnouncements(
  options: AnnouncementListenOptions,
): Promise<AnnouncementListener> {
  const { clock = systemClock, sleep = systemSleep } = options;
  const reporter = new RefusalReporter(options.onRefused, clock, options.maxRefusalsPerMinute ?? 30);
  const rate = new AddressRate({ clock, perMinute: options.perAddressPerMinute ?? 12 });
  const deadlineMs = options.handshakeMs ?? 10_000;
  const refuse = (address: string, reason: RefusalReason) => {
    rate.spend(address, COST_OF_REFUSAL);
    options.onCounted?.(reason.kind);
    reporter.refuse(address, reason);
  };
  const pending = new PendingHandshakes(
    { maxPending: options.maxPendingHandshakes ?? 64, deadlineMs, sleep },
    (address, kind) => refuse(peerAddress(address), { kind }),
  );
  const open = new Set<Socket>();
  let identity = options.identity();
  const server = createServer({
    ...channelTlsOptions(identity),
    requestCert: true,
    // Nobody signs these certificates; admitPeer decides by the key.
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN_ANNOUNCEMENT],
    handshakeTimeout: deadlineMs,
  });
  // SECURITY: no resumeSession listener, ever: with one, tickets would be honoured, and an announcement could be replayed.

  // Before TLS takes the socket up.
  server.prependListener('connection', () => {
    const now = options.identity();
    if (now.pin === identity.pin) return;
    server.setSecureContext(channelTlsOptions(now));
    identity = now;
  });
  server.on('connection', (socket) => {
    const address = peerAddress(socket.remoteAddress);
    if (!rate.allows(address)) {
      options.onCounted?.('too-often');
      reporter.refuse(address, { kind: 'too-often' });
      socket.destroy();
      return;
    }
    rate.spend(address, COST);
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    pending.add(socket);
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    if (pending.finish(socket))
      refuse(peerAddress(socket.remoteAddress), { kind: 'handshake', detail: error.code ?? error.message });
    socket.destroy();
  });
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    if (!pending.finish(socket)) {
      socket.destroy();
      return;
    }
    const remoteAddress = peerAddress(socket.remoteAddress);
    const localAddress = peerAddress(socket.localAddress);
    try {
      const admission = admitPeer(socket, ALPN_ANNOUNCEMENT, options.trustedAgents());
      if (admission.kind === 'admitted') {
        // SECURITY: a manager's key is no agent's, whatever the list of hosts says.
        requireSeparateRoles(new PinSet('agent', [admission.pin]), identity.asPinSet());
        void answer(socket, { agentPin: admission.pin, remoteAddress, localAddress });
        return;
      }
      refuse(remoteAddress, admission.refusal);
    } catch (error) {
      refuse(remoteAddress, { kind: 'internal', detail: describeError(error) });
    }
    socket.destroy();
  });

  async function answer(socket: TLSSocket, announcement: Announcement): Promise<void> {
    // SECURITY: one that reads nothing and never closes holds its place no longer than a handshake may take.
    const over = new AbortController();
    socket.once('close', () => over.abort());
    sleep(deadlineMs, over.signal).then(
      () => socket.destroy(),
      () => {},
    );
    try {
      const addresses = await options.onAnnounced(announcement);
      socket.end(encodeAnswer([...addresses, announcement.localAddress]), () => socket.destroy());
    } catch {
      socket.destroy();
    }
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(cannotListen(options, cause)));
    server.listen({ host: options.host, port: options.port }, resolve);
  });
  server.removeAllListeners('error');
  server.on('error', () => {});
  return {
    address: server.address() as AddressInfo,
    async close() {
      const ended = new Promise<void>((resolve) => server.close(() => resolve()));
      pending.clear();
      for (const socket of open) socket.destroy();
      await ended;
    },
  };
}

function cannotListen({ host, port }: AnnouncementListenOptions, cause: Error): TrustError {
  return new TrustError(
    'channel.cannot_listen',
    'failed',
    `cannot listen for announcements of hosts on ${host} port ${port}`,
    { context: { host, port }, hint: 'See what holds the port (ss -tlnp).', cause },
  );
}
