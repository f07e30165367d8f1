import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { type AdmissionRefusal, admitPeer } from './admission.ts';
import { ALPN_BY_DIALLER, type ChannelRole } from './alpn.ts';
import { channelClientOptions } from './http2-limits.ts';
import type { ChannelIdentity } from './identity.ts';
import { type PinSet, requireSeparateRoles } from './pins.ts';
import { channelTlsOptions } from './tls-options.ts';

export interface DialOptions {
  /** Of a manager, or of an agent that has a grant; the agent's door for that role is asked for. */
  readonly identity: ChannelIdentity<ChannelRole>;
  readonly trustedAgentPins: PinSet<'agent'>;
  readonly host: string;
  readonly port: number;
  /** From the start of the dial to the agent's HTTP/2 settings. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** A channel that is up: both pins were checked and the agent's HTTP/2 settings have arrived. */
export interface ChannelSession {
  readonly peerPin: SpkiPin;
  /** The negotiated key exchange group, such as X25519MLKEM768. */
  readonly group: string;
  readonly protocol: 'TLSv1.3';
  readonly http2: ClientHttp2Session;
  /** Opens nothing more and resolves when the running requests are finished and the session is closed. */
  close(): Promise<void>;
  /** Ends it at once, also where the other side is dead. */
  destroy(): void;
}

/** The :authority of each request; a channel has no names (RFC 9113 §8.3.1, RFC 6761 §6.4). */
const AUTHORITY = 'https://agent.invalid';

/**
 * Dials an agent. Throws `channel.unreachable`, `channel.timeout`, `channel.peer_untrusted` (we refuse it),
 * `channel.peer_refused` (it refuses us), `channel.handshake`, `channel.pin_role`, or the signal's own reason.
 */
export async function dialChannel(options: DialOptions): Promise<ChannelSession> {
  const { identity, trustedAgentPins, host, port, timeoutMs, signal } = options;
  requireSeparateRoles(trustedAgentPins, identity.asPinSet());
  const alpn = ALPN_BY_DIALLER[identity.role];
  signal?.throwIfAborted();
  const socket = connectTls({
    ...channelTlsOptions(identity),
    host,
    port,
    // No name is sent or looked at.
    servername: '',
    rejectUnauthorized: false,
    ALPNProtocols: [alpn],
  });
  socket.setNoDelay(true);
  const timeout = AbortSignal.timeout(timeoutMs);
  const ended = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
  let phase: Phase = 'tcp';
  let http2: ClientHttp2Session | undefined;
  const { promise, resolve, reject } = Promise.withResolvers<ChannelSession>();

  const fail = (error: unknown) => {
    reject(error);
    http2?.destroy();
    socket.destroy();
  };
  const onAbort = () => fail(signal?.aborted ? signal.reason : timedOut(options, phase));
  ended.addEventListener('abort', onAbort, { once: true });
  socket.once('connect', () => {
    phase = 'tls';
  });
  socket.on('error', (cause) => fail(cut(options, phase, cause)));
  socket.once('close', () => fail(cut(options, phase)));
  socket.once('secureConnect', () => {
    phase = 'settings';
    // SECURITY: synchronous; no application byte is written before the agent's pin was found trusted.
    const admission = admitPeer(socket, alpn, trustedAgentPins);
    if (admission.kind === 'refused') {
      fail(untrusted(options, admission.refusal));
      return;
    }
    const session = connectHttp2(AUTHORITY, { ...channelClientOptions(), createConnection: () => socket });
    http2 = session;
    session.on('error', (cause) => fail(cut(options, phase, cause)));
    session.once('close', () => fail(cut(options, phase)));
    session.once('remoteSettings', () => {
      resolve({
        peerPin: admission.pin,
        group: groupOf(socket),
        protocol: 'TLSv1.3',
        http2: session,
        close: () => closeGracefully(session),
        destroy: () => {
          session.destroy();
          socket.destroy();
        },
      });
    });
  });
  try {
    return await promise;
  } finally {
    ended.removeEventListener('abort', onAbort);
  }
}

type Phase = 'tcp' | 'tls' | 'settings';

const DIALLER: Readonly<Record<ChannelRole, string>> = { manager: 'the manager', agent: 'this host' };

const REFUSED_HINT: Readonly<Record<ChannelRole, string>> = {
  manager: "The agent does not trust this manager's key; its log names the pin it refused.",
  agent:
    "The agent there has no grant for this host's key, or not any more; its log names the pin it refused.",
};

function groupOf(socket: TLSSocket): string {
  const info = socket.getEphemeralKeyInfo();
  return info !== null && 'name' in info && typeof info.name === 'string' ? info.name : 'unknown';
}

function closeGracefully(session: ClientHttp2Session): Promise<void> {
  if (session.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    // Not as the argument of close(), which forgets it where the session is closing already.
    session.once('close', () => resolve());
    session.close();
  });
}

function timedOut({ identity, host, port, timeoutMs }: DialOptions, phase: Phase): TrustError {
  return new TrustError(
    'channel.timeout',
    'unavailable',
    `cannot reach the agent at ${host} port ${port}: no answer`,
    {
      context: { host, port, timeoutMs, phase },
      hint:
        phase === 'tcp'
          ? `See whether the host is up and its firewall lets ${DIALLER[identity.role]} reach the port.`
          : 'Something accepts connections there but does not answer; see the agent with: systemctl status virt-trust-agent.',
    },
  );
}

function cut({ identity, host, port }: DialOptions, phase: Phase, cause?: Error): TrustError {
  const name = `the agent at ${host} port ${port}`;
  const details = { context: { host, port, phase }, ...(cause === undefined ? {} : { cause }) };
  switch (phase) {
    case 'tcp':
      return new TrustError('channel.unreachable', 'unavailable', `cannot reach ${name}`, {
        ...details,
        hint: `See whether the host is up, the agent runs there, and the firewall lets ${DIALLER[identity.role]} reach the port.`,
      });
    case 'tls':
      return new TrustError(
        'channel.handshake',
        'unavailable',
        `cannot make a TLS 1.3 handshake with ${name}`,
        {
          ...details,
          hint: 'Something else may listen on that port, or a device between the two alters the bytes.',
        },
      );
    case 'settings':
      return new TrustError(
        'channel.peer_refused',
        'unauthenticated',
        `cannot open a channel to ${name}: it closed the connection after the handshake`,
        {
          ...details,
          hint: REFUSED_HINT[identity.role],
        },
      );
  }
}

function untrusted({ host, port }: DialOptions, refusal: AdmissionRefusal): TrustError {
  const presented = refusal.kind === 'untrusted-pin' ? `its key ${refusal.pin} is not trusted` : refusal.kind;
  return new TrustError(
    'channel.peer_untrusted',
    'unauthenticated',
    `cannot open a channel to the agent at ${host} port ${port}: ${presented}`,
    {
      context: { host, port, refusal },
      hint: 'If the host was installed again, add it again; otherwise somebody else answers at that address.',
    },
  );
}
