import { createServer, type Http2ServerRequest } from 'node:http2';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { channelServerOptions } from '@virt-trust/channel/http2-limits.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { type ChannelListener, type ListenOptions, listenChannel } from '@virt-trust/channel/listener.ts';
import type { PinSet } from '@virt-trust/channel/pins.ts';
import Fastify, { type FastifyInstance } from 'fastify';
import type { AddressGuard } from './address-guard.ts';
import { MAX_BODY_BYTES, serveDoor } from './door.ts';
import type { Handlers } from './handlers.ts';

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

export interface ChannelDoor {
  /** Address and port, as `ss` writes them. */
  readonly listen: string;
  readonly port: number;
  channels(): OpenChannel[];
  /** Takes up changed keys and managers. */
  refresh(): void;
  /** Ends the channels that came in on an address that is the host's no more; answers how many. */
  endSessions(isGone: (localAddress: string) => boolean): number;
  close(signal: AbortSignal): Promise<void>;
}

/** Opens the manager's door: HTTP/2 over the channel on every address, for admitted addresses and pins only. */
export async function openChannelDoor(options: ChannelDoorOptions): Promise<ChannelDoor> {
  const { handlers, log, clock, admits } = options;
  const open = new Map<object, OpenChannel>();
  let listener: ChannelListener | undefined;
  let server: ReturnType<typeof createServer> | undefined;
  const app = Fastify({
    http2: true,
    serverFactory: (handler) => {
      server = createServer(channelServerOptions(), handler);
      return server;
    },
    bodyLimit: MAX_BODY_BYTES,
  });
  serveDoor(app as unknown as FastifyInstance, {
    door: 'channel',
    handlers,
    log,
    callerOf: (request) => {
      const { session } = (request.raw as unknown as Http2ServerRequest).stream;
      // SECURITY: who calls is what the handshake proved, nothing that the request says.
      const managerPin = listener?.peerOf(session);
      if (managerPin === undefined) return undefined;
      return { door: 'channel', managerPin, remoteAddress: session?.socket.remoteAddress ?? 'unknown' };
    },
  });
  await app.ready();
  if (server === undefined)
    throw new TrustError('channel.no_server', 'internal', 'cannot make the HTTP/2 server');
  server.on('session', (session) => {
    const managerPin = listener?.peerOf(session);
    if (managerPin === undefined) return;
    const remoteAddress = session.socket.remoteAddress ?? 'unknown';
    open.set(session, { remoteAddress, managerPin, since: clock.now() });
    session.once('close', () => {
      open.delete(session);
      options.onChannels?.();
    });
    options.onChannels?.();
  });
  listener = await listenOnAllAddresses({
    identity: options.identity,
    trustedManagers: options.trustedManagers,
    port: options.port,
    server,
    admitAddress: admits,
    clock,
    onRefused: (refusal) => log.warn({ ...refusal }, 'connection refused'),
  });
  const { address, port } = listener.address;
  const opened = listener;
  return {
    listen: address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`,
    port,
    channels: () => [...open.values()],
    refresh: () => opened.refresh(),
    endSessions: (isGone) => opened.endSessions(isGone),
    async close(signal) {
      await opened.close(signal);
      await app.close();
    },
  };
}

async function listenOnAllAddresses(options: Omit<ListenOptions, 'host'>): Promise<ChannelListener> {
  try {
    return await listenChannel({ ...options, host: '::' });
  } catch (error) {
    const cause =
      error instanceof TrustError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
    // A host whose kernel has no IPv6.
    if (cause?.code === 'EAFNOSUPPORT' || cause?.code === 'EADDRNOTAVAIL')
      return await listenChannel({ ...options, host: '0.0.0.0' });
    throw error;
  }
}
