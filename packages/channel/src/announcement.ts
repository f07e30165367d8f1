import { isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { admitPeer } from './admission.ts';
import { ALPN_ANNOUNCEMENT } from './alpn.ts';
import type { ChannelIdentity } from './identity.ts';
import { peerAddress } from './peer-address.ts';
import { type PinSet, requireSeparateRoles } from './pins.ts';
import { channelTlsOptions } from './tls-options.ts';

export interface AnnounceOptions {
  readonly identity: ChannelIdentity<'agent'>;
  readonly trustedManagers: PinSet<'manager'>;
  readonly host: string;
  readonly port: number;
  /** From the start of the dial to the manager's answer. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** A manager took note. */
export interface Announced {
  readonly managerPin: SpkiPin;
  /** From where it will dial back. */
  readonly dialsFrom: readonly string[];
}

const MOST_BYTES = 512;
const MOST_ADDRESSES = 8;

/** Addresses, one a line, as a manager answers an announcement. */
export function encodeAnswer(addresses: readonly string[]): string {
  return addresses
    .slice(0, MOST_ADDRESSES)
    .map((address) => `${address}\n`)
    .join('');
}

/** Reads the answer to an announcement; whatever is no address is passed over. */
export function parseAnswer(bytes: Uint8Array): string[] {
  const lines = Buffer.from(bytes.subarray(0, MOST_BYTES)).toString('latin1').split('\n');
  // The last one was not ended: it may be half an address.
  const addresses = lines.slice(0, -1).filter((line) => isIP(line) !== 0 && peerAddress(line) !== '');
  return [...new Set(addresses.map((line) => peerAddress(line)))].slice(0, MOST_ADDRESSES);
}

/**
 * Shows a manager this agent's key, and with it where the agent is: the manager is to dial back. Nothing else is said.
 * Throws `announcement.unreachable`, `announcement.untrusted` (not one of our managers), `announcement.refused` (it does
 * not know this agent), `channel.pin_role`, or the signal's own reason.
 */
export async function announce(options: AnnounceOptions): Promise<Announced> {
  const { identity, trustedManagers, host, port, timeoutMs, signal } = options;
  requireSeparateRoles(trustedManagers, identity.asPinSet());
  signal?.throwIfAborted();
  const socket = connectTls({
    ...channelTlsOptions(identity),
    host,
    port,
    servername: '',
    rejectUnauthorized: false,
    ALPNProtocols: [ALPN_ANNOUNCEMENT],
  });
  const timeout = AbortSignal.timeout(timeoutMs);
  const ended = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
  const { promise, resolve, reject } = Promise.withResolvers<Announced>();
  let managerPin: SpkiPin | undefined;
  const parts: Buffer[] = [];
  const finish = (cause?: unknown) => {
    if (managerPin === undefined) reject(unreachable(options, cause));
    else if (parts.length === 0) reject(refused(options));
    else resolve({ managerPin, dialsFrom: parseAnswer(Buffer.concat(parts)) });
    socket.destroy();
  };
  const onAbort = () => {
    if (signal?.aborted) reject(signal.reason);
    finish();
  };
  ended.addEventListener('abort', onAbort, { once: true });
  socket.on('error', finish);
  socket.once('close', () => finish());
  socket.once('secureConnect', () => {
    // SECURITY: what comes is read only after the manager's pin was found trusted.
    const admission = admitPeer(socket, ALPN_ANNOUNCEMENT, trustedManagers);
    if (admission.kind === 'refused') {
      reject(untrusted(options));
      socket.destroy();
      return;
    }
    managerPin = admission.pin;
    let bytes = 0;
    socket.on('data', (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes >= MOST_BYTES) finish();
    });
    socket.once('end', () => finish());
  });
  try {
    return await promise;
  } finally {
    ended.removeEventListener('abort', onAbort);
    socket.destroy();
  }
}

function unreachable({ host, port }: AnnounceOptions, cause: unknown): TrustError {
  return new TrustError(
    'announcement.unreachable',
    'unavailable',
    `cannot reach a manager at ${host} port ${port}`,
    { context: { host, port }, cause },
  );
}

function untrusted({ host, port }: AnnounceOptions): TrustError {
  return new TrustError(
    'announcement.untrusted',
    'unauthenticated',
    `cannot announce to ${host} port ${port}: who answers there is none of this host's managers`,
    { context: { host, port } },
  );
}

function refused({ host, port }: AnnounceOptions): TrustError {
  return new TrustError(
    'announcement.refused',
    'unauthenticated',
    `cannot announce to ${host} port ${port}: the manager there took no note of it`,
    { context: { host, port }, hint: "The manager does not know this agent's key, or is asked too often." },
  );
}
