import { connect, type TLSSocket } from 'node:tls';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { admitPeer } from '@virt-trust/channel/admission.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { groupOf, STREAM_ALPN, type StreamKind, streamTlsOptions, watchPeer } from './relay-tls.ts';

export interface RelayDial {
  /** Of the grant. */
  readonly id: string;
  readonly kind: StreamKind;
  readonly identity: ChannelIdentity<'agent'>;
  readonly pins: readonly string[];
  /** Tried one after the other. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** For each address. */
  readonly timeoutMs: number;
}

/** A connection to the relay: the destination's key was checked, and nothing was written yet. */
export interface DialledRelay {
  readonly socket: TLSSocket;
  readonly address: string;
  readonly pin: SpkiPin;
  readonly group: string;
}

const HIGH_WATER_MARK = 256 * 1024;

/** Dials the destination's relay. Throws `relay.unreachable`, `relay.untrusted`. */
export async function dialRelay(dial: RelayDial): Promise<DialledRelay> {
  let last: unknown;
  for (const address of dial.addresses) {
    try {
      return await dialOne(dial, address);
    } catch (error) {
      last = error;
    }
  }
  throw (
    last ?? new TrustError('relay.unreachable', 'unavailable', 'cannot reach the relay: no address is known')
  );
}

function dialOne(dial: RelayDial, address: string): Promise<DialledRelay> {
  const { id, kind, identity, pins, port, timeoutMs } = dial;
  const alpn = STREAM_ALPN[kind];
  const { promise, resolve, reject } = Promise.withResolvers<DialledRelay>();
  const options = {
    ...streamTlsOptions(identity),
    host: address,
    port,
    servername: id,
    rejectUnauthorized: false,
    ALPNProtocols: [alpn],
    // libvirt's RPC has no half of a connection; QEMU's streams do.
    allowHalfOpen: kind !== 'rpc',
    highWaterMark: HIGH_WATER_MARK,
  };
  const socket = connect(options);
  const fail = (error: TrustError) => {
    clearTimeout(timer);
    socket.destroy();
    reject(error);
  };
  const timer = setTimeout(() => fail(unreachable(dial, address, 'no answer')), timeoutMs);
  const onClose = () => fail(unreachable(dial, address, 'it closed the connection'));
  const onError = (cause: Error) => fail(unreachable(dial, address, cause.message, cause));
  socket.once('error', onError);
  socket.once('close', onClose);
  socket.once('secureConnect', () => {
    // SECURITY: synchronous; no byte is written before the destination's key was found to be the grant's.
    const admission = admitPeer(socket, alpn, new PinSet('agent', pins));
    if (admission.kind === 'refused') {
      fail(untrusted(dial, address, admission.refusal.kind));
      return;
    }
    clearTimeout(timer);
    socket.off('error', onError).off('close', onClose);
    socket.on('error', () => {});
    watchPeer(socket);
    resolve({ socket, address, pin: admission.pin, group: groupOf(socket) });
  });
  return promise;
}

function unreachable({ port }: RelayDial, address: string, reason: string, cause?: Error): TrustError {
  return new TrustError(
    'relay.unreachable',
    'unavailable',
    `cannot reach the other host's relay at ${address} port ${port}: ${reason}`,
    {
      context: { address, port },
      hint: 'See whether a firewall between the two hosts lets TCP ports 16520 to 16583 through, and what the journal of virt-trust-relay-* says there.',
      ...(cause === undefined ? {} : { cause }),
    },
  );
}

function untrusted({ port }: RelayDial, address: string, reason: string): TrustError {
  return new TrustError(
    'relay.untrusted',
    'unauthenticated',
    `cannot trust the relay at ${address} port ${port}: ${reason}`,
    { context: { address, port }, hint: 'Somebody else than the host of the grant answers at that address.' },
  );
}
