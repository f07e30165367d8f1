import { createServer, type Http2ServerRequest, type ServerOptions } from 'node:http2';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { ChannelRole } from '@virt-trust/channel/alpn.ts';
import { channelServerOptions } from '@virt-trust/channel/http2-limits.ts';
import { type ChannelListener, type ListenOptions, listenChannel } from '@virt-trust/channel/listener.ts';
import type { AgentOperation, Door } from '@virt-trust/contract/agent/agent-operation.ts';
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import { MAX_BODY_BYTES, serveDoor } from './door.ts';
import type { Caller, Handlers } from './handlers.ts';

/** Who is at the other end of a session, as the handshake proved it. */
export interface ProvenPeer {
  readonly pin: SpkiPin;
  readonly remoteAddress: string;
}

export interface PinnedDoorOptions<Dialler extends ChannelRole> {
  readonly door: Door;
  readonly handlers: Handlers;
  readonly log: Log;
  readonly listen: Omit<ListenOptions<Dialler>, 'server' | 'host'>;
  /** The caller of a request, asked before its body is read and again before it is obeyed; throws what refuses it. */
  readonly callerOf: (peer: ProvenPeer, request: FastifyRequest, operation: AgentOperation) => Caller;
  /** Bounds that are narrower than a manager's. */
  readonly limits?: ServerOptions;
  /** How long the whole of a request may take to arrive; default: as long as it likes. */
  readonly requestMs?: number;
  /** Called with each session that was let in. */
  readonly onSession?: (peer: ProvenPeer, closed: Promise<void>) => void;
}

/** The door while it is open; closing it lets requests end until the signal. */
export interface PinnedDoor extends Omit<ChannelListener, 'close' | 'peerOf'> {
  close(signal: AbortSignal): Promise<void>;
}

/** Opens a door of HTTP/2 over the channel on every address of the host, for admitted addresses and pins only. */
export async function openPinnedDoor<Dialler extends ChannelRole>(
  options: PinnedDoorOptions<Dialler>,
): Promise<PinnedDoor> {
  const { door, handlers, log, limits, requestMs, onSession } = options;
  let listener: ChannelListener | undefined;
  let server: ReturnType<typeof createServer> | undefined;
  const app = Fastify({
    http2: true,
    serverFactory: (handler) => {
      server = createServer({ ...channelServerOptions(), ...limits }, handler);
      return server;
    },
    bodyLimit: MAX_BODY_BYTES,
  });
  serveDoor(app as unknown as FastifyInstance, {
    door,
    handlers,
    log,
    callerOf: (request, operation) => {
      const { session } = (request.raw as unknown as Http2ServerRequest).stream;
      // SECURITY: who calls is what the handshake proved, nothing that the request says.
      const pin = listener?.peerOf(session);
      if (pin === undefined) return undefined;
      const remoteAddress = session?.socket.remoteAddress ?? 'unknown';
      return options.callerOf({ pin, remoteAddress }, request, operation);
    },
  });
  await app.ready();
  if (server === undefined)
    throw new TrustError('channel.no_server', 'internal', 'cannot make the HTTP/2 server');
  server.on('session', (session) => {
    const pin = listener?.peerOf(session);
    if (pin === undefined) return;
    const closed = new Promise<void>((resolve) => session.once('close', () => resolve()));
    onSession?.({ pin, remoteAddress: session.socket.remoteAddress ?? 'unknown' }, closed);
  });
  if (requestMs !== undefined) {
    // SECURITY: one that sends its body byte by byte, or never ends it, holds its stream no longer than this.
    server.on('stream', (stream) => {
      const timer = setTimeout(() => {
        if (!stream.readableEnded) stream.destroy();
      }, requestMs);
      stream.once('close', () => clearTimeout(timer));
    });
  }
  const opened = await listenOnAllAddresses({ ...options.listen, server });
  listener = opened;
  return {
    address: opened.address,
    refresh: () => opened.refresh(),
    endSessions: (isGone) => opened.endSessions(isGone),
    async close(signal) {
      await opened.close(signal);
      await app.close();
    },
  };
}

async function listenOnAllAddresses<Dialler extends ChannelRole>(
  options: Omit<ListenOptions<Dialler>, 'host'>,
): Promise<ChannelListener> {
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
